/*
 * A closed-loop SIP load generator for one server, over UDP, TCP, TLS, WebSocket or WebSocket over TLS.
 *
 * It keeps a window of OPTIONS requests outstanding, each with a branch, a Call-ID and a From tag of its own, sends the
 * next one when one is answered, and prints one line of JSON. Each request is one datagram, one write, one frame. Over UDP
 * a request unanswered for 500 ms (T1) is sent again, a few times; then, and after as long on a connection, it counts as
 * lost. Whatever the server does, the run ends: see -n, -s and -t.
 *
 *     cc -O2 -o load load.c
 *     cc -O2 -DWITH_TLS -o load load.c -lssl -lcrypto
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#ifdef WITH_TLS
#include <openssl/err.h>
#include <openssl/ssl.h>
#else
typedef void SSL;
#endif

enum {
    MAX_WINDOW = 16384,
    MAX_CONNECTIONS = 16384,
    MAX_REQUESTS = 100000000,
    MAX_SECONDS = 3600,
    MAX_ADDRESSES = 250,
    MAX_DATAGRAM = 65535,
    MESSAGE = 16384,            /* bytes of one message, kept while it arrives in pieces or the kernel has no room */
    TOKEN_LENGTH = 20,          /* hex digits after the cookie: run, sequence number, slot */
    BURST = 64,                 /* datagrams, or connections, read before sending goes on */
    HISTOGRAM = 100000,         /* latency buckets of 10 us: up to one second */
    BUCKET_US = 10,
    HEADER = 14,                /* most bytes of a frame's header (RFC 6455 section 5.2) */
};

static const char COOKIE[] = "z9hG4bK";     /* RFC 3261 section 8.1.1.7 */
static const double GIVE_UP = 5.0;          /* seconds without any answer before the run ends */
static const double SWEEP = 0.05;           /* seconds between two looks for overdue requests */

static const char HELP[] =
"usage: load [options] HOST PORT\n"
"\n"
"Send OPTIONS requests to a SIP server and count the answers. The result is one line of JSON on stdout.\n"
"\n"
"  -T T   transport: udp (the default), tcp, tls, ws or wss; certificates are not verified\n"
"  -c C   from C sockets or connections (default 1, at most 16384), all there before the first request\n"
"  -p P   connect P of them at a time (default 16)\n"
"  -l L   begin at most L connections per second (default: as fast as -p allows)\n"
"  -a A   from A addresses by turns, 127.0.0.2 and those behind it (default: the one the system chooses)\n"
"  -n N   send N requests (default 20000, unless -s is given)\n"
"  -s S   send for S seconds\n"
"  -w W   keep at most W requests outstanding (default 32, at most 16384): spread evenly over the connections,\n"
"         so that W = C is one for each\n"
"  -r R   send at most R requests per second (default: as fast as the window allows)\n"
"  -t T   end after T seconds whatever happens (default 120, at most 3600)\n"
"  -m M   send an unanswered request M more times, 500 ms apart, before it counts as lost (default 3);\n"
"         on a connection, where nothing is sent again, wait as long\n"
"  -k     keep: when all are connected say so, and then send for each line on stdin, which may hold another N, or 0\n"
"         to send until the next line; the connections end with stdin\n"
"  -b     busy: never sleep while waiting, so that the server never wakes it\n"
"  -e     echo mode: any message that carries the branch of a request answers it\n"
"  -v     show the first request and the first answer on stderr\n"
"  -h, --help\n"
"\n"
"examples:\n"
"  load 127.0.0.1 5060                    20000 requests, window of 32\n"
"  load -n 200000 -w 64 127.0.0.1 5060    more of them\n"
"  load -s 10 -r 1000 127.0.0.1 5060      ten seconds at 1000 requests per second\n"
"  load -T tcp -c 50 -w 50 127.0.0.1 5060 fifty connections, one request outstanding on each\n"
"  load -T tls -c 9000 -w 9000 -n 9000 -a 20 -k 127.0.0.1 5061\n"
"                                         connect 9000 times, one request on each for each line typed\n"
"  load -e 127.0.0.1 5060                 against a server that sends back what it gets\n"
"\n"
"exit status: 0 every request was answered as it should be, 1 some were not, 2 wrong usage or no socket\n";

struct transport {
    const char *name, *via;
    int is_stream, is_secure, is_framed;
};

static const struct transport TRANSPORTS[] = {
    { "udp", "UDP", 0, 0, 0 },
    { "tcp", "TCP", 1, 0, 0 },
    { "tls", "TLS", 1, 1, 0 },
    { "ws",  "WS",  1, 0, 1 },
    { "wss", "WSS", 1, 1, 1 },
};

enum state { CLOSED, CONNECTING, SHAKING_HANDS, UPGRADING, OPEN };

struct connection {
    int socket, local_port;
    char local_host[INET_ADDRSTRLEN];
    enum state state;
    SSL *ssl;
    char *in, *out;             /* an incomplete message; bytes that the kernel has not taken */
    size_t in_used, out_used;
};

struct slot {
    int busy;
    uint32_t sequence;
    int resent;
    double first_sent, last_sent;
};

struct run {
    const struct transport *transport;
    int window, busy, echo, verbose, max_resends, keep, until_line, parallel, addresses, epoll;
    long requests;
    double seconds, rate, connect_rate, limit;
    char host[64];
    int port;
    uint32_t id, next_sequence;

    struct connection connections[MAX_CONNECTIONS];
    int connection_count, open;
    struct slot slots[MAX_WINDOW];
    int free_slots[MAX_WINDOW], free_first, free_count, retired;   /* a ring: the longest waiting one is next */
    uint32_t histogram[HISTOGRAM + 1];
    double slowest;

    long sent, ok, other, lost, resent, stray, malformed, refused, blocked, closed;
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

static struct connection *connection_of(struct run *run, int index)
{
    return &run->connections[index % run->connection_count];
}

static int write_request(struct run *run, int index, char *data, size_t size)
{
    const struct slot *slot = &run->slots[index];
    const struct connection *connection = connection_of(run, index);
    uint64_t call = scatter((uint64_t)run->id << 32 | slot->sequence), tag = scatter(call);
    return snprintf(data, size,
        "OPTIONS sip:bench@%s:%d SIP/2.0\r\n"
        "Via: SIP/2.0/%s %s:%d;branch=%s%08x%08x%04x;rport\r\n"
        "Max-Forwards: 70\r\n"
        "From: \"Load\" <sip:load@%s:%d>;tag=%016llx\r\n"
        "To: <sip:bench@%s:%d>\r\n"
        "Call-ID: %016llx%08x@127.0.0.1\r\n"
        "CSeq: 1 OPTIONS\r\n"
        "Contact: <sip:load@%s:%d>\r\n"
        "User-Agent: sippet bench load\r\n"
        "Accept: application/sdp\r\n"
        "Content-Length: 0\r\n"
        "\r\n",
        run->host, run->port,
        run->transport->via, connection->local_host, connection->local_port, COOKIE, run->id, slot->sequence, index,
        connection->local_host, connection->local_port, (unsigned long long)tag,
        run->host, run->port,
        (unsigned long long)call, slot->sequence,
        connection->local_host, connection->local_port);
}

/* ---- slots */

static void free_slot(struct run *run, int index)
{
    run->slots[index].busy = 0;
    if (connection_of(run, index)->state == CLOSED) {
        run->retired++;
        return;
    }
    run->free_slots[(run->free_first + run->free_count++) % MAX_WINDOW] = index;
}

static void lose_slot(struct run *run, int index)
{
    run->lost++;
    free_slot(run, index);
}

/* ---- one connection: bytes in and out */

static void watch(struct run *run, struct connection *connection, int change, uint32_t events)
{
    struct epoll_event event = { .events = events, .data.u32 = (uint32_t)(connection - run->connections) };
    if (epoll_ctl(run->epoll, change, connection->socket, &event) < 0) {
        perror("load: epoll_ctl");
        exit(2);
    }
}

static void close_connection(struct run *run, struct connection *connection)
{
    if (connection->state == CLOSED)
        return;
    if (connection->state == OPEN)
        run->open--;
    run->closed++;
    connection->state = CLOSED;
#ifdef WITH_TLS
    if (connection->ssl)
        SSL_free(connection->ssl);
    connection->ssl = NULL;
#endif
    close(connection->socket);
    for (int index = 0; index < run->window; index++)
        if (run->slots[index].busy && connection_of(run, index) == connection)
            lose_slot(run, index);
    for (int left = run->free_count; left > 0; left--) {    /* its free slots retire, too */
        int index = run->free_slots[run->free_first];
        run->free_first = (run->free_first + 1) % MAX_WINDOW;
        run->free_count--;
        free_slot(run, index);
    }
}

#ifdef WITH_TLS
/* Meaning of a failed SSL call: 0 not now, -1 the end. */
static ssize_t tls_outcome(const struct connection *connection, int result)
{
    int error = SSL_get_error(connection->ssl, result);
    ERR_clear_error();
    return error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE ? 0 : -1;
}
#endif

/* Bytes written, 0 if there is no room now, -1 if the connection has ended. */
static ssize_t put(struct connection *connection, const char *data, size_t length)
{
#ifdef WITH_TLS
    if (connection->ssl) {
        int done = SSL_write(connection->ssl, data, (int)length);
        return done > 0 ? done : tls_outcome(connection, done);
    }
#endif
    ssize_t done = send(connection->socket, data, length, MSG_NOSIGNAL);
    return done >= 0 ? done : errno == EAGAIN || errno == EINTR ? 0 : -1;
}

/* Bytes read, 0 if there are none now, -1 if the connection has ended. */
static ssize_t get(struct connection *connection, char *data, size_t length)
{
#ifdef WITH_TLS
    if (connection->ssl) {
        int done = SSL_read(connection->ssl, data, (int)length);
        return done > 0 ? done : tls_outcome(connection, done);
    }
#endif
    ssize_t done = recv(connection->socket, data, length, 0);
    return done > 0 ? done : done < 0 && (errno == EAGAIN || errno == EINTR) ? 0 : -1;
}

static void put_all(struct run *run, struct connection *connection, const char *data, size_t length)
{
    ssize_t done = 0;
    if (connection->state == CLOSED)
        return;
    if (connection->out_used == 0 && (done = put(connection, data, length)) < 0) {
        close_connection(run, connection);
        return;
    }
    data += done;
    length -= (size_t)done;
    if (length == 0)
        return;
    run->blocked++;
    if (connection->out == NULL)
        connection->out = malloc(MESSAGE);
    if (connection->out == NULL || connection->out_used + length > MESSAGE) {   /* it has not read for long */
        close_connection(run, connection);
        return;
    }
    if (connection->out_used == 0)
        watch(run, connection, EPOLL_CTL_MOD, EPOLLIN | EPOLLOUT);
    memcpy(connection->out + connection->out_used, data, length);
    connection->out_used += length;
}

static void flush(struct run *run, struct connection *connection)
{
    ssize_t done = put(connection, connection->out, connection->out_used);
    if (done < 0) {
        close_connection(run, connection);
        return;
    }
    connection->out_used -= (size_t)done;
    memmove(connection->out, connection->out + done, connection->out_used);
    if (connection->out_used == 0)
        watch(run, connection, EPOLL_CTL_MOD, EPOLLIN);
}

/* One frame, masked as clients must (RFC 6455 section 5.3). */
static void put_frame(struct run *run, struct connection *connection, int opcode, const char *data, size_t length)
{
    static uint64_t seed;
    unsigned char frame[HEADER + MESSAGE];
    uint64_t mask = scatter(run->id + ++seed);
    size_t at = 0;
    if (length > 65535 || length > MESSAGE)
        return;
    frame[at++] = (unsigned char)(0x80 | opcode);
    if (length < 126) {
        frame[at++] = (unsigned char)(0x80 | length);
    } else {
        frame[at++] = 0x80 | 126;
        frame[at++] = (unsigned char)(length >> 8);
        frame[at++] = (unsigned char)length;
    }
    memcpy(frame + at, &mask, 4);
    mask = (mask & 0xffffffffu) | mask << 32;
    at += 4;
    size_t done = 0;
    for (; done + 8 <= length; done += 8) {
        uint64_t word;
        memcpy(&word, data + done, 8);
        word ^= mask;
        memcpy(frame + at + done, &word, 8);
    }
    for (; done < length; done++)
        frame[at + done] = (unsigned char)data[done] ^ ((unsigned char *)&mask)[done % 4];
    put_all(run, connection, (const char *)frame, at + length);
}

static void send_slot(struct run *run, int index, double time)
{
    char data[2048];
    struct connection *connection = connection_of(run, index);
    int length = write_request(run, index, data, sizeof data);
    if (run->verbose && run->slots[index].sequence == 0)
        fprintf(stderr, "%s", data);
    run->request_bytes = length;
    run->slots[index].last_sent = time;
    if (run->transport->is_framed) {
        put_frame(run, connection, 1, data, (size_t)length);
    } else if (run->transport->is_stream) {
        put_all(run, connection, data, (size_t)length);
    } else if (send(connection->socket, data, (size_t)length, 0) < 0) {
        if (errno == ECONNREFUSED)
            run->refused++;
        else
            run->blocked++;
    }
}

static void send_next(struct run *run, double time)
{
    int index = run->free_slots[run->free_first];
    struct slot *slot = &run->slots[index];
    run->free_first = (run->free_first + 1) % MAX_WINDOW;
    run->free_count--;
    run->sent++;
    slot->busy = 1;
    slot->sequence = run->next_sequence++;
    slot->resent = 0;
    slot->first_sent = time;
    send_slot(run, index, time);
}

/* ---- responses */

/* The slot whose branch the message carries, or -1. */
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

/* True if the message ended a request. */
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

/* The bytes of the message, or frame, that starts here; 0 while it is not whole, -1 if it is invalid. */
static long measure(const struct run *run, const char *data, size_t length, size_t *header)
{
    *header = 0;
    if (run->transport->is_framed) {
        size_t size;
        if (length < 2)
            return 0;
        size = (unsigned char)data[1];              /* a server's frames are not masked, and ours are not in pieces */
        if (!(data[0] & 0x80) || size > 126)
            return -1;
        *header = size < 126 ? 2 : 4;
        if (length < *header)
            return 0;
        if (size == 126)
            size = (size_t)(unsigned char)data[2] << 8 | (unsigned char)data[3];
        return length < *header + size ? 0 : (long)(*header + size);
    }
    const char *end = memmem(data, length, "\r\n\r\n", 4), *found;
    long body = 0;
    if (end == NULL)
        return 0;
    found = memmem(data, (size_t)(end - data), "\r\nContent-Length:", 17);
    if (found == NULL || (body = atol(found + 17)) < 0 || body > MESSAGE)
        return -1;
    body += end + 4 - data;
    return length < (size_t)body ? 0 : body;
}

/* Responses in the received bytes; true if at least one request was ended by them. */
static int cut(struct run *run, struct connection *connection, double time)
{
    size_t at = 0, header;
    int ended = 0;
    while (at < connection->in_used) {
        const char *data = connection->in + at;
        long length = measure(run, data, connection->in_used - at, &header);
        if (length == 0)
            break;
        int opcode = run->transport->is_framed && length > 0 ? data[0] & 15 : 1;
        if (length < 0 || opcode == 8) {
            run->malformed += length < 0;
            close_connection(run, connection);
            return ended;
        }
        if (opcode == 9)
            put_frame(run, connection, 10, data + header, (size_t)length - header);
        else if (opcode < 3)
            ended |= receive(run, data + header, (size_t)length - header, time);
        if (connection->state == CLOSED)
            return ended;
        at += (size_t)length;
    }
    connection->in_used -= at;
    memmove(connection->in, connection->in + at, connection->in_used);
    return ended;
}

/* Read all that has arrived; true if it ended a request. */
static int read_stream(struct run *run, struct connection *connection, double time)
{
    int ended = 0;
    for (;;) {
        size_t room = MESSAGE - connection->in_used;
        ssize_t length = room ? get(connection, connection->in + connection->in_used, room) : -1;
        if (length < 0)
            close_connection(run, connection);
        if (length <= 0)
            return ended;
        connection->in_used += (size_t)length;
        ended |= cut(run, connection, time);
        if (connection->state == CLOSED || (connection->ssl == NULL && (size_t)length < room))
            return ended;
    }
}

static int read_datagrams(struct run *run, struct connection *connection, double time)
{
    static char data[MAX_DATAGRAM + 1];
    int ended = 0;
    for (int count = 0; count < BURST; count++) {
        ssize_t length = recv(connection->socket, data, MAX_DATAGRAM, 0);
        if (length < 0) {
            if (errno == ECONNREFUSED) {
                run->refused++;
                continue;
            }
            break;
        }
        data[length] = '\0';
        ended |= receive(run, data, (size_t)length, time);
    }
    return ended;
}

/* Serve all ready descriptors; true if a request was ended. */
static int serve(struct run *run, double time)
{
    struct epoll_event events[BURST];
    int ended = 0, ready = epoll_wait(run->epoll, events, BURST, 0);
    for (int index = 0; index < ready; index++) {
        struct connection *connection = &run->connections[events[index].data.u32];
        if (connection->state != OPEN)
            continue;
        if (connection->out_used && events[index].events & EPOLLOUT)
            flush(run, connection);
        if (connection->state == OPEN && events[index].events & ~(uint32_t)EPOLLOUT)
            ended |= run->transport->is_stream ? read_stream(run, connection, time) : read_datagrams(run, connection, time);
    }
    return ended;
}

static void sweep(struct run *run, double time)
{
    for (int index = 0; index < run->window; index++) {
        struct slot *slot = &run->slots[index];
        if (!slot->busy || time - slot->last_sent < 0.5)
            continue;
        if (run->transport->is_stream) {
            if (time - slot->last_sent >= 0.5 * (run->max_resends + 1))
                lose_slot(run, index);
        } else if (slot->resent < run->max_resends) {
            slot->resent++;
            run->resent++;
            send_slot(run, index, time);
        } else {
            lose_slot(run, index);
        }
    }
}

/* True while there is more to send, by count and clock. */
static int has_more(const struct run *run, double elapsed)
{
    struct pollfd line = { .fd = 0, .events = POLLIN };
    if (run->until_line)
        return poll(&line, 1, 0) == 0;
    return run->requests ? run->sent < run->requests : elapsed < run->seconds;
}

static double drive(struct run *run)
{
    struct pollfd poll_fd = { .fd = run->epoll, .events = POLLIN };
    double started = now(), time = started, last_answer = started, last_sweep = started, due = started;

    for (;;) {
        int more = has_more(run, time - started);
        if (!more && run->free_count + run->retired == run->window)
            break;
        if (time - started > run->limit || time - last_answer > GIVE_UP || run->retired == run->window) {
            run->gave_up = 1;
            for (int index = 0; index < run->window; index++)
                if (run->slots[index].busy)
                    lose_slot(run, index);
            break;
        }
        while (more && run->free_count > 0 && (run->rate == 0 || due <= time)) {
            send_next(run, time);
            if (run->rate > 0) {
                due += 1 / run->rate;
                if (due < time - 0.01)      /* the server was too slow: do not catch up in one burst */
                    due = time - 0.01;
                if (run->free_count + run->retired == run->window - 1)
                    last_answer = time;     /* nothing was outstanding, so silence begins only now */
            }
            more = run->requests == 0 || run->sent < run->requests;
        }

        if (!run->busy) {
            double wait = SWEEP;
            if (more && run->rate > 0 && run->free_count > 0 && due - time < wait)
                wait = due > time ? due - time : 0;
            struct timespec pause = { 0, (long)(wait * 1e9) };
            ppoll(&poll_fd, 1, &pause, NULL);
        }
        time = now();
        if (serve(run, time))
            last_answer = time;
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
           "\"malformed\": %ld, \"refused\": %ld, \"blocked\": %ld, \"closed\": %ld, \"open\": %d, "
           "\"seconds\": %.6f, \"per_second\": %.1f, "
           "\"median_us\": %ld, \"p99_us\": %ld, \"max_us\": %ld, \"window\": %d, \"request_bytes\": %d, "
           "\"gave_up\": %s}\n",
           run->sent, run->ok, run->other, run->lost, run->resent, run->stray,
           run->malformed, run->refused, run->blocked, run->closed, run->open, seconds,
           seconds > 0 ? (double)(run->ok + run->other) / seconds : 0.0,
           percentile(run, 0.5), percentile(run, 0.99), (long)(run->slowest * 1e6), run->window, run->request_bytes,
           run->gave_up ? "true" : "false");
    fflush(stdout);
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

/* ---- connecting */

#ifdef WITH_TLS
static SSL_CTX *tls_context(void)
{
    static SSL_CTX *context;
    if (context == NULL) {
        context = SSL_CTX_new(TLS_client_method());
        if (context == NULL) {
            fprintf(stderr, "load: no TLS context\n");
            exit(2);
        }
        SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS);
    }
    return context;
}
#endif

static void start_connection(struct run *run, struct connection *connection)
{
    struct sockaddr_in remote = { .sin_family = AF_INET }, local = { .sin_family = AF_INET };
    socklen_t size = sizeof local;
    int bytes = 4 << 20, on = 1, is_stream = run->transport->is_stream;

    remote.sin_port = htons((uint16_t)run->port);
    inet_pton(AF_INET, run->host, &remote.sin_addr);
    connection->socket = socket(AF_INET, (is_stream ? SOCK_STREAM : SOCK_DGRAM) | SOCK_NONBLOCK, 0);
    if (connection->socket < 0) {
        perror("load: socket");
        exit(2);
    }
    if (run->addresses) {
        local.sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1 + (uint32_t)(connection - run->connections) % (uint32_t)run->addresses);
        setsockopt(connection->socket, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
        if (bind(connection->socket, (struct sockaddr *)&local, sizeof local) < 0) {
            perror("load: bind");
            exit(2);
        }
    }
    if (is_stream)
        setsockopt(connection->socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    else
        setsockopt(connection->socket, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes);
    if (connect(connection->socket, (struct sockaddr *)&remote, sizeof remote) < 0 && errno != EINPROGRESS) {
        perror("load: connect");
        exit(2);
    }
    getsockname(connection->socket, (struct sockaddr *)&local, &size);
    connection->local_port = ntohs(local.sin_port);
    inet_ntop(AF_INET, &local.sin_addr, connection->local_host, sizeof connection->local_host);
    connection->state = is_stream ? CONNECTING : OPEN;
    connection->in_used = connection->out_used = 0;
    if (is_stream && (connection->in = malloc(MESSAGE)) == NULL)
        usage("no memory for so many connections");
    run->open += !is_stream;
    watch(run, connection, EPOLL_CTL_ADD, is_stream ? EPOLLOUT : EPOLLIN);
}

/* Ask for the protocol of RFC 7118 section 4. The key is that of RFC 6455's example: the answer is not checked. */
static void ask_for_upgrade(struct run *run, struct connection *connection)
{
    char text[512];
    int length = snprintf(text, sizeof text,
        "GET / HTTP/1.1\r\nHost: %s:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: sip\r\n\r\n",
        run->host, run->port);
    connection->state = UPGRADING;
    put_all(run, connection, text, (size_t)length);
}

static void opened(struct run *run, struct connection *connection)
{
    connection->state = OPEN;
    connection->in_used = 0;
    run->open++;
}

/* Take the next step of a connection that is being set up. */
static void advance(struct run *run, struct connection *connection)
{
    if (connection->state == CONNECTING) {
        int code = 0;
        socklen_t size = sizeof code;
        getsockopt(connection->socket, SOL_SOCKET, SO_ERROR, &code, &size);
        if (code) {
            close_connection(run, connection);
            return;
        }
        watch(run, connection, EPOLL_CTL_MOD, EPOLLIN);
        connection->state = SHAKING_HANDS;
#ifdef WITH_TLS
        if (run->transport->is_secure) {
            connection->ssl = SSL_new(tls_context());
            SSL_set_fd(connection->ssl, connection->socket);
        }
#endif
    }
    if (connection->state == SHAKING_HANDS) {
#ifdef WITH_TLS
        if (connection->ssl) {
            int done = SSL_connect(connection->ssl);
            if (done <= 0) {
                if (tls_outcome(connection, done) < 0)
                    close_connection(run, connection);
                return;
            }
        }
#endif
        if (run->transport->is_framed)
            ask_for_upgrade(run, connection);
        else
            opened(run, connection);
        return;
    }
    if (connection->state == UPGRADING) {
        ssize_t length = get(connection, connection->in + connection->in_used, MESSAGE - 1 - connection->in_used);
        if (length > 0) {
            connection->in_used += (size_t)length;
            connection->in[connection->in_used] = '\0';
        }
        if (length < 0 || (connection->in_used >= 12 && memcmp(connection->in, "HTTP/1.1 101", 12) != 0))
            close_connection(run, connection);
        else if (strstr(connection->in, "\r\n\r\n"))
            opened(run, connection);
    }
}

/* Set all connections up, a number at a time; return the seconds. */
static double connect_all(struct run *run)
{
    struct pollfd poll_fd = { .fd = run->epoll, .events = POLLIN };
    struct epoll_event events[BURST];
    double started = now();
    int next = 0;
    while (run->open + run->closed < run->connection_count && now() - started < run->limit) {
        while (next < run->connection_count && next - run->open - run->closed < run->parallel
                && (run->connect_rate == 0 || next <= (now() - started) * run->connect_rate))
            start_connection(run, &run->connections[next++]);
        poll(&poll_fd, 1, run->connect_rate == 0 ? 50 : 1);
        int ready = epoll_wait(run->epoll, events, BURST, 0);
        for (int index = 0; index < ready; index++) {
            struct connection *connection = &run->connections[events[index].data.u32];
            if (connection->state == OPEN) {
                if (run->transport->is_stream)
                    read_stream(run, connection, now());    /* session tickets, an early end */
            } else if (connection->state != CLOSED) {
                advance(run, connection);
            }
        }
    }
    return now() - started;
}

/* Wait for a line on stdin, serving the connections meanwhile; false at its end. */
static int wait_for_line(struct run *run)
{
    char line[64];
    struct pollfd ready[2] = { { .fd = 0, .events = POLLIN }, { .fd = run->epoll, .events = POLLIN } };
    for (;;) {
        poll(ready, 2, -1);
        if (ready[1].revents)
            serve(run, now());
        if (ready[0].revents) {
            if (fgets(line, sizeof line, stdin) == NULL)
                return 0;
            if (line[0] != '\n')
                run->requests = atol(line);
            run->until_line = line[0] == '0';
            return 1;
        }
    }
}

/* Reset the counts of the run before. */
static void start_anew(struct run *run)
{
    run->sent = run->ok = run->other = run->lost = run->resent = run->stray = run->malformed = run->refused = run->blocked = 0;
    run->slowest = 0;
    run->gave_up = 0;
    memset(run->histogram, 0, sizeof run->histogram);
}

int main(int argc, char **argv)
{
    static struct run run = {
        .transport = TRANSPORTS, .window = 32, .limit = 120, .max_resends = 3, .parallel = 16, .connection_count = 1,
    };
    struct timespec time;
    struct in_addr address;
    int option, failed = 0;

    if (argc > 1 && strcmp(argv[1], "--help") == 0) {
        fputs(HELP, stdout);
        return 0;
    }
    while ((option = getopt(argc, argv, "T:c:p:l:a:n:s:w:r:t:m:kbevh")) != -1) {
        switch (option) {
        case 'T':
            run.transport = NULL;
            for (size_t index = 0; index < sizeof TRANSPORTS / sizeof *TRANSPORTS; index++)
                if (strcmp(optarg, TRANSPORTS[index].name) == 0)
                    run.transport = &TRANSPORTS[index];
            if (run.transport == NULL)
                usage("transports are udp, tcp, tls, ws and wss");
            break;
        case 'c': run.connection_count = (int)number(optarg, 1, MAX_CONNECTIONS); break;
        case 'p': run.parallel = (int)number(optarg, 1, MAX_CONNECTIONS); break;
        case 'l': run.connect_rate = number(optarg, 0.1, 10e6); break;
        case 'a': run.addresses = (int)number(optarg, 1, MAX_ADDRESSES); break;
        case 'n': run.requests = (long)number(optarg, 1, MAX_REQUESTS); break;
        case 's': run.seconds = number(optarg, 0.001, MAX_SECONDS); break;
        case 'w': run.window = (int)number(optarg, 1, MAX_WINDOW); break;
        case 'r': run.rate = number(optarg, 0.1, 10e6); break;
        case 't': run.limit = number(optarg, 0.1, MAX_SECONDS); break;
        case 'm': run.max_resends = (int)number(optarg, 0, 100); break;
        case 'k': run.keep = 1; break;
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
#ifndef WITH_TLS
    if (run.transport->is_secure)
        usage("built without TLS");
#endif
    snprintf(run.host, sizeof run.host, "%s", argv[optind]);
    if (inet_pton(AF_INET, run.host, &address) != 1)
        usage("HOST must be an IPv4 address");
    run.port = (int)number(argv[optind + 1], 1, 65535);

    signal(SIGPIPE, SIG_IGN);                   /* OpenSSL writes without MSG_NOSIGNAL */
    clock_gettime(CLOCK_REALTIME, &time);
    run.id = (uint32_t)time.tv_nsec ^ (uint32_t)time.tv_sec << 12 ^ (uint32_t)getpid();
    run.epoll = epoll_create1(0);
    setvbuf(stdin, NULL, _IONBF, 0);            /* poll() must see each line */
    double took = connect_all(&run);
    if (run.keep) {
        printf("{\"open\": %d, \"failed\": %ld, \"seconds\": %.6f}\n", run.open, run.closed, took);
        fflush(stdout);
    } else if (run.open == 0) {
        fprintf(stderr, "load: no connection to %s:%d\n", run.host, run.port);
    }
    for (int index = 0; index < run.window; index++)
        free_slot(&run, index);
    while (!run.keep || wait_for_line(&run)) {
        start_anew(&run);
        print_result(&run, drive(&run));
        if (run.until_line)
            getchar();                          /* the line that ended it */
        failed |= run.ok != run.sent || run.gave_up;
        if (!run.keep)
            break;
    }
    return failed;
}
