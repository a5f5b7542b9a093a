/*
 * Lets the disk of a process stall: preload this, and fsync() and fdatasync() wait as long as the file named by
 * STALL_WHILE exists.
 *
 *     cc -O2 -shared -fPIC -o stall.so stall.c -ldl
 *     STALL_WHILE=/tmp/stall LD_PRELOAD=./stall.so sippet serve --database location.db
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static void stall(void)
{
    const char *name = getenv("STALL_WHILE");
    const struct timespec pause = { 0, 5000000 };
    while (name && access(name, F_OK) == 0)
        nanosleep(&pause, NULL);
}

int fsync(int fd)
{
    static int (*next)(int);
    if (!next)
        next = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
    stall();
    return next(fd);
}

int fdatasync(int fd)
{
    static int (*next)(int);
    if (!next)
        next = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    stall();
    return next(fd);
}
