/*
 * An open-loop generator of whole units of work for one SIP server: calls, proxied calls, registrations. Over UDP, or
 * over TLS as a trunk does it, on a few connections that are there before the first unit. The callee speaks UDP.
 *
 *     call      INVITE, 180, 200, ACK, BYE, 200 with a server that answers calls
 *     proxied   the same through a proxy: the generator is the caller and, at -c, the callee
 *     register  REGISTER of the users 0 to -u by turns, each with its own Call-ID, its own Contact in every run, and a
 *               rising CSeq
 *
 * Units begin at a named rate whatever the server does. The Contact, Record-Route and To of the answers are followed, as
 * RFC 3261 section 12 says. A request unanswered for 500 ms (T1) is sent again, at doubling intervals, and counts as lost
 * after five copies; over TLS it counts as lost after the same time. The result is one line of JSON. Latencies are those
 * of the first request, and of nothing refused.
 *
 *     cc -O2 -o calls calls.c
 *     cc -O2 -o calls calls.c -DWITH_TLS -lssl -lcrypto
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#ifdef WITH_TLS
#include <openssl/err.h>
#include <openssl/ssl.h>
#endif

enum {
    SLOTS = 1 << 20,            /* most units in progress; the slot is the unit's number modulo this */
    MAX_DATAGRAM = 65535,
    MESSAGE = 4096,
    BURST = 64,                 /* datagrams read before anything else is done */
    BEGIN = 256,                /* units begun before anything else is done */
    MAX_FLOWS = 64,
    MAX_COPIES = 5,
    HISTOGRAM = 20000,          /* latency buckets of 100 us: up to two seconds */
    BUCKET_US = 100,
};

static const double T1 = 0.5, PATIENCE = 5.0;

static const char HELP[] =
"usage: calls [options] call|proxied|register HOST PORT\n"
"\n"
"  -n N   units of work (default 2000)\n"
"  -r R   units begun per second (default 500)\n"
"  -c P   port of the callee, for proxied\n"
"  -p MS  milliseconds from the ACK to the BYE (default 0)\n"
"  -u U   users, for register (default 10000)\n"
"  -g S   give up: end S seconds after the last unit has begun; without this, when all units have ended\n"
"  -w W   at most W units in progress (default: any number)\n"
"  -s S   CSeq of the first REGISTER of each user (default 1)\n"
"  -t C   over TLS, on C connections by turns, at most 64; certificates are not verified\n"
"  -b     busy: never sleep, so that the server never pays for waking the generator\n"
"  -v     print the first messages on stderr\n"
"\n"
"examples:\n"
"  calls call 127.0.0.1 5060                     2000 calls, 500 per second\n"
"  calls -r 1200 -c 5080 proxied 127.0.0.1 5060  through a proxy, whose target is 127.0.0.1:5080\n"
"  calls -n 20000 -u 10000 register 127.0.0.1 5060\n"
"  calls -t 16 call 127.0.0.1 5061               over 16 TLS connections\n"
"\n"
"exit status: 0 every unit succeeded, 1 some did not, 2 wrong usage or no socket\n";

enum mode { CALL, PROXIED, REGISTER };
enum state { FREE, INVITED, PAUSED, LEAVING };

struct unit {
    long number;
    enum state state;
    int copies, refusals;               /* refusals: 503s received */
    double begun, sent, due;            /* due: when it is sent again, or the BYE leaves */
    char *bye;                          /* the BYE that waits, or that is repeated */
    char *ack;                          /* the ACK, repeated for each repeated 2xx */
};

static struct {
    enum mode mode;
    long units, begun, ok, other, lost, resent, stray, refused, refused_twice, answered, broken, in_time, window;
    double rate, pause, patience;
    int users, first_cseq, busy, verbose, port, local, callee_local;
    unsigned id;
    int caller, callee, flows;
    const char *transport;
    struct sockaddr_in server;
    uint32_t histogram[HISTOGRAM + 1];
} run;

static struct unit table[SLOTS];
static struct { long first, last; int number[SLOTS]; } waiting[MAX_COPIES + 2]; /* by copies sent: due in the order of entry */
static char host[64];

#ifdef WITH_TLS
static struct flow {
    SSL *ssl;
    int sock, local;
    char *out, in[2 * MAX_DATAGRAM + 1];    /* what the connection had no room for; what is no whole message yet */
    size_t used, room, got;
} flows[MAX_FLOWS];
#endif

static double now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec / 1e9;
}

static void die(const char *what)
{
    fprintf(stderr, "calls: %s: %s\n", what, strerror(errno));
    exit(2);
}

static int bound(int port, int *local)
{
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(port) };
    socklen_t length = sizeof address;
    int size = 8 << 20, sock = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);

    inet_pton(AF_INET, "127.0.0.1", &address.sin_addr);
    if (sock < 0 || bind(sock, (struct sockaddr *)&address, sizeof address) < 0)
        die("no socket");
    setsockopt(sock, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
    getsockname(sock, (struct sockaddr *)&address, &length);
    *local = ntohs(address.sin_port);
    return sock;
}

static void transmit(int sock, const char *text, const struct sockaddr_in *to)
{
    static int shown;

    if (run.verbose && shown++ < 16)
        fprintf(stderr, "---- sent\n%s", text);
    sendto(sock, text, strlen(text), 0, (const struct sockaddr *)to, sizeof *to);
}

#ifdef WITH_TLS
static void flush(struct flow *flow)
{
    while (flow->used) {
        int done = SSL_write(flow->ssl, flow->out, flow->used < MAX_DATAGRAM ? flow->used : MAX_DATAGRAM);

        if (done <= 0) {
            int error = SSL_get_error(flow->ssl, done);

            ERR_clear_error();
            if (error != SSL_ERROR_WANT_READ && error != SSL_ERROR_WANT_WRITE)
                die("the server has ended a connection");
            return;
        }
        memmove(flow->out, flow->out + done, flow->used -= done);
    }
}

static void connect_flows(void)
{
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());

    if (context == NULL)
        die("no TLS context");
    SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    for (struct flow *flow = flows; flow < flows + run.flows; flow++) {
        struct sockaddr_in local;
        socklen_t length = sizeof local;
        int on = 1;

        flow->sock = socket(AF_INET, SOCK_STREAM, 0);
        setsockopt(flow->sock, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        if (flow->sock < 0 || connect(flow->sock, (struct sockaddr *)&run.server, sizeof run.server) < 0)
            die("no connection");
        getsockname(flow->sock, (struct sockaddr *)&local, &length);
        flow->local = ntohs(local.sin_port);
        flow->ssl = SSL_new(context);
        SSL_set_fd(flow->ssl, flow->sock);
        if (SSL_connect(flow->ssl) != 1)
            die("no TLS handshake");
        fcntl(flow->sock, F_SETFL, O_NONBLOCK);
    }
}
#endif

/* Send a message of the caller. A unit stays on its connection. */
static void tell(const struct unit *unit, const char *text)
{
#ifdef WITH_TLS
    if (run.flows) {
        struct flow *flow = &flows[unit->number % run.flows];
        size_t length = strlen(text);

        if (flow->used + length > flow->room)
            flow->out = realloc(flow->out, flow->room = 2 * (flow->used + length));
        memcpy(flow->out + flow->used, text, length);
        flow->used += length;
        flush(flow);
        return;
    }
#else
    (void)unit;
#endif
    transmit(run.caller, text, &run.server);
}

static int local_port(const struct unit *unit)
{
#ifdef WITH_TLS
    if (run.flows)
        return flows[unit->number % run.flows].local;
#else
    (void)unit;
#endif
    return run.local;
}

/* ---- reading */

/* The value of a header field, at or after a place, by its long or its compact name; its end goes into *end. */
static const char *field(const char *from, const char *name, char compact, const char **end)
{
    size_t length = strlen(name);

    for (const char *line = strstr(from, "\r\n"); line && line[2] != '\r'; line = strstr(line, "\r\n")) {
        line += 2;
        const char *colon = strchr(line, ':');

        if (colon == NULL)
            return NULL;
        size_t size = colon - line;
        while (size && line[size - 1] == ' ')
            size--;
        if ((size == length && strncasecmp(line, name, length) == 0) ||
            (compact && size == 1 && (line[0] | 32) == compact)) {
            const char *value = colon + 1;

            while (*value == ' ')
                value++;
            *end = strstr(value, "\r\n");
            return *end ? value : NULL;
        }
    }
    return NULL;
}

static size_t copy_field(char *out, const char *from, const char *name, char compact, const char *label)
{
    const char *end, *value;
    size_t used = 0;

    for (const char *at = from; (value = field(at, name, compact, &end)); at = end)
        used += sprintf(out + used, "%s: %.*s\r\n", label, (int)(end - value), value);
    out[used] = 0;
    return used;
}

/* The URI inside the first angle brackets of a value. */
static int uri_of(const char *value, const char *end, char *out)
{
    const char *open = memchr(value, '<', end - value);
    const char *close = open ? memchr(open, '>', end - open) : NULL;

    if (close == NULL)
        return 0;
    sprintf(out, "%.*s", (int)(close - open - 1), open + 1);
    return 1;
}

/* Write the Record-Route values of an answer as a Route, last value first (RFC 3261 section 12.1.2). */
static void route_of(const char *answer, char *out)
{
    const char *values[16], *ends[16], *end, *value;
    int count = 0;

    for (const char *at = answer; (value = field(at, "Record-Route", 0, &end)); at = end)
        for (const char *part = value; part < end && count < 16;) {
            const char *close = memchr(part, '>', end - part);
            const char *comma = close ? memchr(close, ',', end - close) : NULL;

            values[count] = part;
            ends[count++] = comma ? comma : end;
            part = comma ? comma + 1 : end;
        }
    *out = 0;
    while (count-- > 0)
        out += sprintf(out, "Route: %.*s\r\n", (int)(ends[count] - values[count]), values[count]);
}

/* ---- the caller */

static const char SDP[] =
    "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
    "m=audio 6000 RTP/AVP 8 0 101\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:0 PCMU/8000\r\n"
    "a=rtpmap:101 telephone-event/8000\r\n";

static void invite(struct unit *unit)
{
    char text[MESSAGE];

    sprintf(text,
            "INVITE sip:bob@%s:%d SIP/2.0\r\n"
            "Via: SIP/2.0/%s 127.0.0.1:%d;branch=z9hG4bK%08x.%ld;rport\r\n"
            "Max-Forwards: 70\r\n"
            "From: \"Alice\" <sip:alice@127.0.0.1>;tag=%ld\r\n"
            "To: <sip:bob@%s>\r\n"
            "Call-ID: %08x.%ld@bench\r\n"
            "CSeq: 1 INVITE\r\n"
            "Contact: <sip:alice@127.0.0.1:%d%s>\r\n"
            "User-Agent: calls\r\n"
            "Content-Type: application/sdp\r\n"
            "Content-Length: %zu\r\n\r\n%s",
            host, run.port, run.transport, local_port(unit), run.id, unit->number, unit->number, host, run.id, unit->number,
            local_port(unit), run.flows ? ";transport=tls" : "",
            strlen(SDP), SDP);
    tell(unit, text);
}

static void reregister(struct unit *unit)
{
    char text[MESSAGE];
    long user = unit->number % run.users, cseq = run.first_cseq + unit->number / run.users;

    sprintf(text,
            "REGISTER sip:%s SIP/2.0\r\n"
            "Via: SIP/2.0/%s 127.0.0.1:%d;branch=z9hG4bK%08x.%ld;rport\r\n"
            "Max-Forwards: 70\r\n"
            "From: <sip:user%ld@%s>;tag=%ld\r\n"
            "To: <sip:user%ld@%s>\r\n"
            "Call-ID: register-%ld@bench\r\n"
            "CSeq: %ld REGISTER\r\n"
            "Contact: <sip:user%ld@127.0.0.1:5062>;expires=3600\r\n"
            "User-Agent: calls\r\n"
            "Content-Length: 0\r\n\r\n",
            host, run.transport, local_port(unit), run.id, unit->number, user, host, unit->number, user, host, user, cseq, user);
    tell(unit, text);
}

static void wait_for(struct unit *unit)
{
    waiting[unit->copies].number[waiting[unit->copies].last++ % SLOTS] = unit->number;
}

static void request(struct unit *unit)
{
    if (unit->state == LEAVING)
        tell(unit, unit->bye);
    else if (run.mode == REGISTER)
        reregister(unit);
    else
        invite(unit);
}

static void send_request(struct unit *unit, double time)
{
    request(unit);
    unit->copies = 1;
    unit->sent = time;
    unit->due = time + T1;
    wait_for(unit);
}

static void end(struct unit *unit, long *counter)
{
    free(unit->bye);
    free(unit->ack);
    unit->bye = unit->ack = NULL;
    unit->state = FREE;
    ++*counter;
}

/* Make a request within the dialog that an answer has begun. */
static char *within(const struct unit *unit, const char *answer, const char *method, int cseq)
{
    char text[MESSAGE], route[2048], target[512], to[512];
    const char *finish, *contact = field(answer, "Contact", 'm', &finish);

    if (contact == NULL || !uri_of(contact, finish, target))
        return NULL;
    route_of(answer, route);
    copy_field(to, answer, "To", 't', "To");
    sprintf(text,
            "%s %s SIP/2.0\r\n"
            "Via: SIP/2.0/%s 127.0.0.1:%d;branch=z9hG4bK%08x.%ld.%s;rport\r\n"
            "Max-Forwards: 70\r\n%s"
            "From: \"Alice\" <sip:alice@127.0.0.1>;tag=%ld\r\n%s"
            "Call-ID: %08x.%ld@bench\r\n"
            "CSeq: %d %s\r\n"
            "User-Agent: calls\r\n"
            "Content-Length: 0\r\n\r\n",
            method, target, run.transport, local_port(unit), run.id, unit->number, method, route, unit->number, to, run.id, unit->number, cseq,
            method);
    return strdup(text);
}

static void refused(const struct unit *unit, const char *answer)
{
    char text[MESSAGE], to[512];

    copy_field(to, answer, "To", 't', "To");
    sprintf(text,
            "ACK sip:bob@%s:%d SIP/2.0\r\n"
            "Via: SIP/2.0/%s 127.0.0.1:%d;branch=z9hG4bK%08x.%ld;rport\r\n"
            "Max-Forwards: 70\r\n"
            "From: \"Alice\" <sip:alice@127.0.0.1>;tag=%ld\r\n%s"
            "Call-ID: %08x.%ld@bench\r\n"
            "CSeq: 1 ACK\r\nContent-Length: 0\r\n\r\n",
            host, run.port, run.transport, local_port(unit), run.id, unit->number, unit->number, to, run.id, unit->number);
    tell(unit, text);
}

static void note(const struct unit *unit, double time)
{
    long bucket = (time - unit->begun) * 1e6 / BUCKET_US;

    run.histogram[bucket < HISTOGRAM ? bucket : HISTOGRAM]++;
}

static void answered(const char *text, double time)
{
    const char *finish, *via = field(text, "Via", 'v', &finish), *cseq = field(text, "CSeq", 0, &finish);
    const char *branch = via ? strstr(via, "branch=z9hG4bK") : NULL;
    unsigned id;
    long number;
    int status = atoi(text + 8);

    if (branch == NULL || cseq == NULL || sscanf(branch + 14, "%8x.%ld", &id, &number) != 2 || id != run.id) {
        run.stray++;
        return;
    }
    struct unit *unit = &table[number % SLOTS];

    const char *method = strchr(cseq, ' ');

    if (unit->state == FREE || unit->number != number) {
        if (status == 503 && unit->number == number && unit->refusals++ == 1)
            run.refused_twice++;
        if (status >= 300 && method && strncmp(method + 1, "INVITE", 6) == 0 && unit->number == number)
            refused(unit, text);                 /* a repeated refusal: its ACK was lost, or late */
        return;                                  /* or a repeated answer of a unit that has ended */
    }
    if (status < 200) {
        if (unit->state == INVITED)
            unit->due = time + PATIENCE;
        return;
    }
    if (run.mode == REGISTER) {
        note(unit, time);
        end(unit, status == 200 ? &run.ok : &run.other);
    } else if (method && strncmp(method + 1, "INVITE", 6) == 0) {
        if (status >= 300) {
            refused(unit, text);
            unit->refusals = status == 503;
            end(unit, status == 503 ? &run.refused : &run.other);
        } else if (unit->state == INVITED) {
            if (!run.patience || run.begun < run.units)
                note(unit, time);
            run.answered++;
            unit->ack = within(unit, text, "ACK", 1);
            unit->bye = within(unit, text, "BYE", 2);
            if (unit->ack == NULL || unit->bye == NULL) {
                end(unit, &run.other);
                return;
            }
            tell(unit, unit->ack);
            unit->state = PAUSED;
            unit->due = time + run.pause;
            unit->copies = 0;
            wait_for(unit);
            if (run.pause == 0) {
                unit->state = LEAVING;
                send_request(unit, time);
            }
        } else if (unit->ack)
            tell(unit, unit->ack);
    } else if (unit->state == LEAVING)
        end(unit, status == 200 ? &run.ok : &run.other);
}

/* ---- the callee */

static void respond(const char *text, const char *status, int has_body, const struct sockaddr_in *to)
{
    char out[MESSAGE * 2];
    const char *finish, *value;
    size_t used = sprintf(out, "SIP/2.0 %s\r\n", status);

    used += copy_field(out + used, text, "Via", 'v', "Via");
    used += copy_field(out + used, text, "Record-Route", 0, "Record-Route");
    used += copy_field(out + used, text, "From", 'f', "From");
    if ((value = field(text, "To", 't', &finish)))
        used += sprintf(out + used, "To: %.*s%s\r\n", (int)(finish - value), value,
                        memmem(value, finish - value, ";tag=", 5) ? "" : ";tag=callee");
    used += copy_field(out + used, text, "Call-ID", 'i', "Call-ID");
    used += copy_field(out + used, text, "CSeq", 0, "CSeq");
    used += sprintf(out + used, "Contact: <sip:bob@127.0.0.1:%d>\r\n", run.callee_local);
    if (has_body)
        used += sprintf(out + used, "Content-Type: application/sdp\r\n");
    sprintf(out + used, "Content-Length: %zu\r\n\r\n%s", has_body ? strlen(SDP) : 0, has_body ? SDP : "");
    transmit(run.callee, out, to);
}

static void called(const char *text, const struct sockaddr_in *from)
{
    if (strncmp(text, "INVITE ", 7) == 0) {
        respond(text, "180 Ringing", 0, from);
        respond(text, "200 OK", 1, from);
    } else if (strncmp(text, "ACK ", 4) != 0 && strncmp(text, "SIP/2.0 ", 8) != 0)
        respond(text, "200 OK", 0, from);
}

/* ---- the loop */

static int drain(int sock, double time)
{
    static char data[MAX_DATAGRAM + 1];
    int count = 0;

    for (; count < BURST; count++) {
        struct sockaddr_in from;
        socklen_t length = sizeof from;
        ssize_t got = recvfrom(sock, data, MAX_DATAGRAM, 0, (struct sockaddr *)&from, &length);

        if (got < 0)
            break;
        data[got] = 0;
        if (sock == run.callee)
            called(data, &from);
        else if (strncmp(data, "SIP/2.0 ", 8) == 0)
            answered(data, time);
        else
            run.stray++;
    }
    return count;
}

#ifdef WITH_TLS
/* Read what has come on a connection, and take the whole messages of it. */
static int drain_flow(struct flow *flow, double time)
{
    int got = SSL_read(flow->ssl, flow->in + flow->got, sizeof flow->in - 1 - flow->got);

    flush(flow);
    if (got <= 0) {
        int error = SSL_get_error(flow->ssl, got);

        ERR_clear_error();
        if (error != SSL_ERROR_WANT_READ && error != SSL_ERROR_WANT_WRITE)
            die("the server has ended a connection");
        return 0;
    }
    flow->in[flow->got += got] = 0;

    char *at = flow->in, *body;

    while ((body = strstr(at, "\r\n\r\n"))) {
        const char *finish, *length = field(at, "Content-Length", 'l', &finish);
        char *next = body + 4 + (length && length < body ? atoi(length) : 0), after;

        if (next > flow->in + flow->got)
            break;
        after = *next;
        *next = 0;
        if (strncmp(at, "SIP/2.0 ", 8) == 0)
            answered(at, time);
        else
            run.stray++;
        *next = after;
        at = next;
    }
    memmove(flow->in, at, flow->got -= at - flow->in);
    flow->in[flow->got] = 0;
    return 1;
}
#endif

/* Send again what is due, by the number of copies sent: the units of each number are due in the order of entry, but for
 * those that ring. */
static void sweep(double time)
{
    for (int copies = 0; copies <= MAX_COPIES; copies++)
        for (long last = waiting[copies].last; waiting[copies].first < last; waiting[copies].first++) {
            struct unit *unit = &table[waiting[copies].number[waiting[copies].first % SLOTS] % SLOTS];

            if (unit->number == waiting[copies].number[waiting[copies].first % SLOTS] && unit->state != FREE &&
                unit->copies == copies) {
                if (time < unit->due && unit->due - time < PATIENCE / 2 + T1 * (1 << copies))
                    break;
                if (time < unit->due)
                    wait_for(unit);              /* it rings */
                else if (unit->state == PAUSED) {
                    unit->state = LEAVING;
                    send_request(unit, time);
                } else if (copies >= MAX_COPIES) {
                    run.broken += unit->state == LEAVING;
                    end(unit, &run.lost);
                } else {
                    if (!run.flows) {            /* RFC 3261 section 17.1.1.2: timer A is for UDP */
                        request(unit);
                        run.resent++;
                    }
                    unit->due = time + T1 * (1 << unit->copies++);
                    wait_for(unit);
                }
            }
        }
}

static double percentile(double part)
{
    long total = 0, seen = 0;

    for (int index = 0; index <= HISTOGRAM; index++)
        total += run.histogram[index];
    for (int index = 0; index <= HISTOGRAM; index++)
        if ((seen += run.histogram[index]) > total * part)
            return (index + 1) * BUCKET_US / 1000.0;
    return 0;
}

int main(int count, char **words)
{
    static const char *MODES[] = { "call", "proxied", "register" };
    int option, callee_port = 0;

    run.units = 2000, run.rate = 500, run.users = 10000, run.first_cseq = 1;
    while ((option = getopt(count, words, "n:r:c:p:u:s:g:w:t:bvh")) != -1)
        switch (option) {
        case 'n': run.units = atol(optarg); break;
        case 'r': run.rate = atof(optarg); break;
        case 'c': callee_port = atoi(optarg); break;
        case 'p': run.pause = atof(optarg) / 1000; break;
        case 'u': run.users = atoi(optarg); break;
        case 's': run.first_cseq = atoi(optarg); break;
        case 'g': run.patience = atof(optarg); break;
        case 'w': run.window = atol(optarg); break;
        case 't': run.flows = atoi(optarg); break;
        case 'b': run.busy = 1; break;
        case 'v': run.verbose = 1; break;
        case 'h': fputs(HELP, stdout); return 0;
        default: fputs(HELP, stderr); return 2;
        }
    for (run.mode = CALL; optind < count && run.mode <= REGISTER && strcmp(words[optind], MODES[run.mode]); run.mode++)
        ;
    if (count - optind != 3 || run.mode > REGISTER || run.units < 1 || run.rate <= 0 || run.users < 1 ||
        (run.mode == PROXIED && callee_port == 0) || run.flows < 0 || run.flows > MAX_FLOWS) {
        fputs(HELP, stderr);
        return 2;
    }
    snprintf(host, sizeof host, "%s", words[optind + 1]);
    run.port = atoi(words[optind + 2]);
    run.server.sin_family = AF_INET;
    run.server.sin_port = htons(run.port);
    if (inet_pton(AF_INET, host, &run.server.sin_addr) != 1) {
        fprintf(stderr, "calls: %s is not an IPv4 address\n", host);
        return 2;
    }
    run.id = (unsigned)getpid() * 2654435761u ^ (unsigned)time(NULL);
    run.transport = run.flows ? "TLS" : "UDP";
    if (run.flows) {
#ifdef WITH_TLS
        signal(SIGPIPE, SIG_IGN);
        connect_flows();
#else
        fputs("calls: built without TLS\n", stderr);
        return 2;
#endif
    }
    run.caller = bound(0, &run.local);
    run.callee = run.mode == PROXIED ? bound(callee_port, &run.callee_local) : -1;

    double start = now(), swept = start, last = start;
    long oldest = 0;

    while (run.ok + run.other + run.lost + run.refused < run.units) {
        double time = now();
        long wanted = (time - start) * run.rate + 1;
        int busy = 0;

        for (int begun = 0; begun < BEGIN && run.begun < run.units && run.begun < wanted && run.begun - oldest < SLOTS &&
             (!run.window || run.begun - run.ok - run.other - run.lost - run.refused < run.window);
             begun++, run.begun++) {
            struct unit *unit = &table[run.begun % SLOTS];

            unit->number = run.begun;
            unit->refusals = 0;
            unit->state = INVITED;
            unit->begun = time;
            send_request(unit, time);
            busy = 1;
        }
        busy += drain(run.caller, time);
#ifdef WITH_TLS
        for (struct flow *flow = flows; flow < flows + run.flows; flow++)
            busy += drain_flow(flow, time);
#endif
        if (run.callee >= 0)
            busy += drain(run.callee, time);
        if (time - swept > 0.005) {
            while (oldest < run.begun && table[oldest % SLOTS].state == FREE)
                oldest++;
            sweep(time);
            swept = time;
        }
        if (busy)
            last = time;
        if (run.begun < run.units)
            run.in_time = run.ok;
        else if (run.patience && time - table[(run.units - 1) % SLOTS].begun > run.patience)
            break;
        if (time - last > 40)
            break;
        if (!busy && !run.busy)
            usleep(200);
    }
    printf("{\"units\": %ld, \"ok\": %ld, \"other\": %ld, \"lost\": %ld, \"resent\": %ld, \"stray\": %ld, "
           "\"seconds\": %.3f, \"p50_ms\": %.1f, \"p99_ms\": %.1f, \"refused\": %ld, \"refused_twice\": %ld, "
           "\"answered\": %ld, \"broken\": %ld, \"in_time\": %ld, \"begun_seconds\": %.3f}\n",
           run.begun, run.ok, run.other + run.refused, run.begun - run.ok - run.other - run.refused, run.resent, run.stray,
           now() - start, percentile(0.5), percentile(0.99), run.refused, run.refused_twice, run.answered, run.broken,
           run.in_time, table[(run.begun - 1) % SLOTS].begun - start);
    return run.ok == run.units ? 0 : 1;
}
