/*
 * A closed-loop SIP load generator for one UDP server.
 *
 * It keeps a window of OPTIONS requests outstanding, each with a branch, a Call-ID and a From tag of its own, sends the
 * next one when one is answered, and prints one line of JSON. A request unanswered for 500 ms (T1) is sent again, a few
 * times; then it counts as lost. Whatever the server does, the run ends: see -n, -s and -t.
 *
 *     cc -O2 -o load load.c
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    MAX_WINDOW = 4096,
    MAX_REQUESTS = 100000000,
    MAX_SECONDS = 3600,
    MAX_DATAGRAM = 65535,
    TOKEN_LENGTH = 20,          /* hex digits after the cookie: run, sequence number, slot */
    BURST = 64,                 /* datagrams read before the sending side gets its turn */
    HISTOGRAM = 100000,         /* latency buckets of 10 us: up to one second */
    BUCKET_US = 10,
};

static const char COOKIE[] = "z9hG4bK";     /* RFC 3261 section 8.1.1.7 */
static const double GIVE_UP = 5.0;          /* seconds without any answer before the run ends */
static const double SWEEP = 0.05;           /* seconds between two looks for overdue requests */

static const char HELP[] =
"usage: load [options] HOST PORT\n"
"\n"
"Send OPTIONS requests to a UDP server and count the answers. The result is one line of JSON on stdout.\n"
"\n"
"  -n N   send N requests (default 20000, unless -s is given)\n"
"  -s S   send for S seconds\n"
"  -w W   keep at most W requests outstanding (default 32, at most 4096)\n"
"  -r R   send at most R requests per second (default: as fast as the window allows)\n"
"  -t T   end after T seconds whatever happens (default 120, at most 3600)\n"
"  -m M   send an unanswered request M more times, 500 ms apart, before it counts as lost (default 3)\n"
"  -b     busy: never sleep while waiting, so that the server has nobody to wake\n"
"  -e     echo mode: any datagram that carries the branch of a request answers it\n"
"  -v     show the first request and the first answer on stderr\n"
"  -h, --help\n"
"\n"
"examples:\n"
"  load 127.0.0.1 5060                    20000 requests, window of 32\n"
"  load -n 200000 -w 64 127.0.0.1 5060    more of them\n"
"  load -s 10 -r 1000 127.0.0.1 5060      ten seconds at 1000 requests per second\n"
"  load -e 127.0.0.1 5060                 against a server that sends back what it gets\n"
"\n"
"exit status: 0 every request was answered as it should be, 1 some were not, 2 wrong usage or no socket\n";

struct slot {
    int busy;
    uint32_t sequence;
    int resent;
    double first_sent, last_sent;
};

struct run {
    int socket, window, busy, echo, verbose, max_resends;
    long requests;
    double seconds, rate, limit;
    char host[64];
    int port, local_port;
    uint32_t id;

    struct slot slots[MAX_WINDOW];
    int free_slots[MAX_WINDOW], free_count;
    uint32_t histogram[HISTOGRAM + 1];
    double slowest;

    long sent, ok, other, lost, resent, stray, malformed, refused, blocked;
    int request_bytes, gave_up;
};

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* 64 scattered bits (splitmix64): user agents make random Call-IDs and tags, and a server's hash may count on it. */
static uint64_t scatter(uint64_t bits)
{
    bits += 0x9e3779b97f4a7c15u;
    bits = (bits ^ (bits >> 30)) * 0xbf58476d1ce4e5b9u;
    bits = (bits ^ (bits >> 27)) * 0x94d049bb133111ebu;
    return bits ^ (bits >> 31);
}

static int write_request(const struct run *run, int index, char *data, size_t size)
{
    const struct slot *slot = &run->slots[index];
    uint64_t call = scatter((uint64_t)run->id << 32 | slot->sequence), tag = scatter(call);
    return snprintf(data, size,
        "OPTIONS sip:bench@%s:%d SIP/2.0\r\n"
        "Via: SIP/2.0/UDP 127.0.0.1:%d;branch=%s%08x%08x%04x;rport\r\n"
        "Max-Forwards: 70\r\n"
        "From: \"Load\" <sip:load@127.0.0.1:%d>;tag=%016llx\r\n"
        "To: <sip:bench@%s:%d>\r\n"
        "Call-ID: %016llx%08x@127.0.0.1\r\n"
        "CSeq: 1 OPTIONS\r\n"
        "Contact: <sip:load@127.0.0.1:%d>\r\n"
        "User-Agent: sippet bench load\r\n"
        "Accept: application/sdp\r\n"
        "Content-Length: 0\r\n"
        "\r\n",
        run->host, run->port,
        run->local_port, COOKIE, run->id, slot->sequence, index,
        run->local_port, (unsigned long long)tag,
        run->host, run->port,
        (unsigned long long)call, slot->sequence,
        run->local_port);
}

static void send_slot(struct run *run, int index, double time)
{
    char data[2048];
    int length = write_request(run, index, data, sizeof data);
    if (run->verbose && run->slots[index].sequence == 0)
        fprintf(stderr, "%s", data);
    run->request_bytes = length;
    run->slots[index].last_sent = time;
    if (send(run->socket, data, (size_t)length, 0) < 0) {
        if (errno == ECONNREFUSED)
            run->refused++;
        else
            run->blocked++;
    }
}

static void send_next(struct run *run, double time)
{
    int index = run->free_slots[--run->free_count];
    struct slot *slot = &run->slots[index];
    slot->busy = 1;
    slot->sequence = (uint32_t)run->sent++;
    slot->resent = 0;
    slot->first_sent = time;
    send_slot(run, index, time);
}

static void free_slot(struct run *run, int index)
{
    run->slots[index].busy = 0;
    run->free_slots[run->free_count++] = index;
}

/* The slot whose branch the datagram carries, or -1. */
static int find_slot(const struct run *run, const char *data, size_t length)
{
    const char *token = memmem(data, length, COOKIE, sizeof COOKIE - 1);
    char digits[TOKEN_LENGTH + 1];
    unsigned id, sequence, index;
    if (token == NULL)
        return -1;
    token += sizeof COOKIE - 1;
    if ((size_t)(data + length - token) < TOKEN_LENGTH)
        return -1;
    memcpy(digits, token, TOKEN_LENGTH);
    digits[TOKEN_LENGTH] = '\0';
    if (sscanf(digits, "%8x%8x%4x", &id, &sequence, &index) != 3)
        return -1;
    if (id != run->id || index >= (unsigned)run->window)
        return -1;
    if (!run->slots[index].busy || run->slots[index].sequence != sequence)
        return -1;
    return (int)index;
}

static void note_latency(struct run *run, double seconds)
{
    long bucket = (long)(seconds * 1e6) / BUCKET_US;
    run->histogram[bucket < HISTOGRAM ? bucket : HISTOGRAM]++;
    if (seconds > run->slowest)
        run->slowest = seconds;
}

/* True if the datagram ended a request. */
static int receive(struct run *run, const char *data, size_t length, double time)
{
    int status = 0;
    int index = find_slot(run, data, length);
    if (index < 0) {
        run->stray++;
        return 0;
    }
    if (!run->echo) {
        if (length < 12 || memcmp(data, "SIP/2.0 ", 8) != 0 || (status = atoi(data + 8)) < 100 || status > 699) {
            run->malformed++;
            return 0;
        }
        if (status < 200)
            return 0;
    }
    if (run->verbose && run->slots[index].sequence == 0)
        fprintf(stderr, "%.*s", (int)length, data);
    if (run->echo || status == 200)
        run->ok++;
    else
        run->other++;
    note_latency(run, time - run->slots[index].first_sent);
    free_slot(run, index);
    return 1;
}

static void sweep(struct run *run, double time)
{
    for (int index = 0; index < run->window; index++) {
        struct slot *slot = &run->slots[index];
        if (!slot->busy || time - slot->last_sent < 0.5)
            continue;
        if (slot->resent < run->max_resends) {
            slot->resent++;
            run->resent++;
            send_slot(run, index, time);
        } else {
            run->lost++;
            free_slot(run, index);
        }
    }
}

static double drive(struct run *run)
{
    static char data[MAX_DATAGRAM + 1];
    struct pollfd poll_fd = { .fd = run->socket, .events = POLLIN };
    double started = now(), time = started, last_answer = started, last_sweep = started, due = started;

    for (;;) {
        int more = run->requests ? run->sent < run->requests : time - started < run->seconds;
        if (!more && run->free_count == run->window)
            break;
        if (time - started > run->limit || time - last_answer > GIVE_UP) {
            run->gave_up = 1;
            run->lost += run->window - run->free_count;
            break;
        }
        while (more && run->free_count > 0 && (run->rate == 0 || due <= time)) {
            send_next(run, time);
            if (run->rate > 0) {
                due += 1 / run->rate;
                if (due < time - 0.01)      /* the server was too slow: do not catch up in one burst */
                    due = time - 0.01;
                if (run->free_count == run->window - 1)
                    last_answer = time;     /* nothing was outstanding, so silence begins only now */
            }
            more = run->requests ? run->sent < run->requests : 1;
        }

        double wait = run->busy ? 0 : SWEEP;
        if (more && run->rate > 0 && run->free_count > 0 && due - time < wait)
            wait = due > time ? due - time : 0;
        struct timespec pause = { 0, (long)(wait * 1e9) };
        int ready = ppoll(&poll_fd, 1, &pause, NULL);
        time = now();
        if (ready > 0) {
            for (int count = 0; count < BURST; count++) {
                ssize_t length = recv(run->socket, data, MAX_DATAGRAM, 0);
                if (length < 0) {
                    if (errno == ECONNREFUSED) {
                        run->refused++;
                        continue;
                    }
                    break;
                }
                data[length] = '\0';
                if (receive(run, data, (size_t)length, time))
                    last_answer = time;
            }
        }
        if (time - last_sweep > SWEEP) {
            sweep(run, time);
            last_sweep = time;
        }
    }
    return time - started;
}

static long percentile(const struct run *run, double share)
{
    long answers = run->ok + run->other, seen = 0;
    for (long bucket = 0; bucket <= HISTOGRAM; bucket++) {
        seen += run->histogram[bucket];
        if (seen > 0 && (double)seen >= share * (double)answers)
            return bucket * BUCKET_US;
    }
    return 0;
}

static void print_result(const struct run *run, double seconds)
{
    printf("{\"requests\": %ld, \"ok\": %ld, \"other\": %ld, \"lost\": %ld, \"resent\": %ld, \"stray\": %ld, "
           "\"malformed\": %ld, \"refused\": %ld, \"blocked\": %ld, \"seconds\": %.6f, \"per_second\": %.1f, "
           "\"median_us\": %ld, \"p99_us\": %ld, \"max_us\": %ld, \"window\": %d, \"request_bytes\": %d, "
           "\"gave_up\": %s}\n",
           run->sent, run->ok, run->other, run->lost, run->resent, run->stray,
           run->malformed, run->refused, run->blocked, seconds,
           seconds > 0 ? (double)(run->ok + run->other) / seconds : 0.0,
           percentile(run, 0.5), percentile(run, 0.99), (long)(run->slowest * 1e6), run->window, run->request_bytes,
           run->gave_up ? "true" : "false");
}

static void usage(const char *complaint)
{
    fprintf(stderr, "load: %s; try --help\n", complaint);
    exit(2);
}

static double number(const char *text, double low, double high)
{
    char *end;
    double value = strtod(text, &end);
    if (end == text || *end != '\0' || !(value >= low && value <= high))
        usage("a number is missing or out of range");
    return value;
}

static void connect_socket(struct run *run)
{
    struct sockaddr_in remote = { .sin_family = AF_INET }, local;
    socklen_t size = sizeof local;
    int bytes = 4 << 20;

    remote.sin_port = htons((uint16_t)run->port);
    if (inet_pton(AF_INET, run->host, &remote.sin_addr) != 1)
        usage("HOST must be an IPv4 address");
    run->socket = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    if (run->socket < 0 || connect(run->socket, (struct sockaddr *)&remote, sizeof remote) < 0) {
        perror("load");
        exit(2);
    }
    setsockopt(run->socket, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes);
    getsockname(run->socket, (struct sockaddr *)&local, &size);
    run->local_port = ntohs(local.sin_port);
}

int main(int argc, char **argv)
{
    static struct run run = { .window = 32, .limit = 120, .max_resends = 3 };
    struct timespec time;
    int option;

    if (argc > 1 && strcmp(argv[1], "--help") == 0) {
        fputs(HELP, stdout);
        return 0;
    }
    while ((option = getopt(argc, argv, "n:s:w:r:t:m:bevh")) != -1) {
        switch (option) {
        case 'n': run.requests = (long)number(optarg, 1, MAX_REQUESTS); break;
        case 's': run.seconds = number(optarg, 0.001, MAX_SECONDS); break;
        case 'w': run.window = (int)number(optarg, 1, MAX_WINDOW); break;
        case 'r': run.rate = number(optarg, 0.1, 10e6); break;
        case 't': run.limit = number(optarg, 0.1, MAX_SECONDS); break;
        case 'm': run.max_resends = (int)number(optarg, 0, 10); break;
        case 'b': run.busy = 1; break;
        case 'e': run.echo = 1; break;
        case 'v': run.verbose = 1; break;
        case 'h': fputs(HELP, stdout); return 0;
        default: usage("unknown option");
        }
    }
    if (argc - optind != 2)
        usage("HOST and PORT are wanted");
    if (run.requests && run.seconds > 0)
        usage("-n and -s exclude each other");
    if (!run.requests && run.seconds == 0)
        run.requests = 20000;
    snprintf(run.host, sizeof run.host, "%s", argv[optind]);
    run.port = (int)number(argv[optind + 1], 1, 65535);
    connect_socket(&run);

    clock_gettime(CLOCK_REALTIME, &time);
    run.id = (uint32_t)time.tv_nsec ^ (uint32_t)time.tv_sec << 12 ^ (uint32_t)getpid();
    for (int index = run.window - 1; index >= 0; index--)
        run.free_slots[run.free_count++] = index;

    print_result(&run, drive(&run));
    return run.ok == run.sent && !run.gave_up ? 0 : 1;
}
