/* bench/openloop.c - load at a given rate, whatever becomes of it: an open loop.
 *
 *   openloop [OPTION...] ADDRESS:PORT PATH     GETs over HTTP/1.1; prints what came of them as JSON
 *
 * A line "begun" on standard error says that it is connected, and asks from now on.
 *
 *     -r RATE      requests a second; 0: as many as the connections carry, a closed loop (0)
 *     -d SECONDS   how long (5), behind
 *     -w SECONDS   before that, which count apart, as "warm" (0)
 *     -c COUNT     connections (64)
 *     -t MS        a request that takes longer has failed (5000)
 *     -a MS        one that was sent has so long for its answer, however long it waited before
 *                  (without it: what -t leaves)
 *     -n WINDOWS   the time is counted in so many parts, too (1)
 *     -p           arrivals by chance (Poisson) instead of at equal gaps
 *     -s SEED      of chance (1)
 *
 * Of connections it says how many were open when the first request was sent and when the last one
 * was over, how many attempts to open one came to nothing, and how many the server has ended of
 * itself, idle ones too; one that it ends with "Connection: close" is opened again and is none.
 *
 * SIGTERM ends it sooner, at the end of the seconds that have passed (for one window).
 *
 * A time is measured from the moment at which a request was meant to be sent: where no connection
 * is free, it waits here, and its waiting counts. So a server that stands still for a second is
 * seen as by a thousand clients, not by one that waited politely. "held" is measured from when a
 * request was sent in fact: what the server alone is to blame for.
 *
 *   CONNECTING ──▶ IDLE ◀──▶ BUSY          lost, refused, too late ──▶ BROKEN ──▶ CONNECTING
 */
#include "bench/load.h"
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { HEAD_MAX = 4096, EVENTS_MAX = 512, CONNECTIONS_MAX = 100000, WINDOWS_MAX = 1000 };
enum { CALM_NS = 10000000 };                /* before one that broke is opened again */
static const uint64_t open_ns = 5000000000; /* how long all are waited for; a fifth of it for one */

enum state { CONNECTING, IDLE, BUSY, BROKEN };

/* What may come of a request. The first three have a time. */
enum class { ANSWERED_2XX, ANSWERED_503, ANSWERED_OTHER, CLASSES };

struct conn {
    struct conn *next; /* in the list of its state */
    struct conn *prev;
    uint64_t meant_ns; /* BUSY: when the request was meant to be sent; BROKEN: since when */
    uint64_t sent_ns;  /* BUSY: when it was sent */
    int fd;            /* -1: BROKEN */
    enum state state;
    bool is_in_body;     /* the head is complete */
    bool must_close;     /* the answer says so */
    uint32_t status;     /* of the answer */
    uint32_t head_len;   /* of it, so far */
    uint64_t body_left;  /* of the answer */
    char head[HEAD_MAX]; /* of the answer */
};

/* A part of the time, by when requests were meant to be sent. */
struct window {
    uint64_t offered;    /* requests that were to be sent */
    uint64_t errors;     /* connections that were lost or refused, answers that are none */
    uint64_t unsent;     /* no connection was free in all of their time */
    uint64_t unanswered; /* sent, and given up */
    uint64_t advised;    /* 503s with Retry-After */
    struct latencies seen[CLASSES]; /* from when it was meant to be sent to the last byte */
    struct latencies held;          /* from when it was sent to the last byte, of all classes */
    struct latencies lag;           /* by how much the generator itself was late, of each request */
};

/* What the command line says. */
static struct {
    struct sockaddr_in addr;
    const char *host;
    const char *path;
    double rate, seconds, warm_s;
    uint64_t timeout_ns, answer_ns, seed;
    uint32_t conns, windows;
    bool is_poisson;
} wish = {.seconds = 5, .timeout_ns = 5000000000, .seed = 1, .conns = 64, .windows = 1};

/* Connections, of the warm-up, too. */
static struct {
    uint32_t begun;   /* open when the first request was sent */
    uint32_t ended;   /* open when the last one was over */
    uint64_t refused; /* attempts that came to nothing */
    uint64_t lost;    /* that the server has ended, idle or with an answer due */
} held;

static struct conn *conns;
static struct conn lists[BROKEN + 1]; /* heads; the one that came in first stands first */
static struct window *windows;        /* and behind the last one that of the warm-up */
static struct arrivals arrivals;
static char request[HEAD_MAX];
static size_t request_len;
static int epoll_fd;
static uint64_t begun_ns, end_ns, now_ns;
static uint64_t next_ns; /* when the first one that was not sent was meant to be */
static bool was_free; /* a connection was, before the generator slept: what is late is its doing */

static void die(const char *what)
{
    fprintf(stderr, "openloop: %s%s%s\n", what, errno != 0 ? ": " : "",
            errno != 0 ? strerror(errno) : "");
    exit(2);
}

static void read_clock(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    now_ns = (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* ---- what came of it ---- */

/* Where a request counts. */
static struct window *window_of(uint64_t meant_ns)
{
    double at_s = (double)(meant_ns - begun_ns) / 1e9 - wish.warm_s;
    double index = at_s / wish.seconds * wish.windows;

    if (at_s < 0)
        return &windows[wish.windows];
    return &windows[index < wish.windows ? (uint32_t)index : wish.windows - 1];
}

static void note_answer(const struct conn *conn)
{
    struct window *window = window_of(conn->meant_ns);
    enum class class = conn->status / 100 == 2 ? ANSWERED_2XX
                       : conn->status == 503   ? ANSWERED_503
                                               : ANSWERED_OTHER;

    latencies_add(&window->seen[class], (now_ns - conn->meant_ns) / 1000);
    latencies_add(&window->held, (now_ns - conn->sent_ns) / 1000);
}

/* ---- connections ---- */

static void move(struct conn *conn, enum state state)
{
    struct conn *list = &lists[state];

    if (conn->next != NULL) {
        conn->next->prev = conn->prev;
        conn->prev->next = conn->next;
    }
    conn->state = state;
    conn->next = list;
    conn->prev = list->prev;
    list->prev->next = conn;
    list->prev = conn;
}

static struct conn *first(enum state state)
{
    return lists[state].next != &lists[state] ? lists[state].next : NULL;
}

static void break_off(struct conn *conn)
{
    if (conn->fd >= 0)
        (void)close(conn->fd);
    conn->fd = -1;
    conn->meant_ns = now_ns;
    move(conn, BROKEN);
}

static void lose(struct conn *conn, bool is_timeout)
{
    struct window *window = conn->state == BUSY ? window_of(conn->meant_ns) : NULL;

    held.lost += !is_timeout;
    if (window != NULL && is_timeout)
        window->unanswered++;
    else if (window != NULL)
        window->errors++;
    break_off(conn);
}

static void open_conn(struct conn *conn)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
                                .data.ptr = conn};
    int on = 1;

    conn->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (conn->fd < 0)
        die("socket");
    (void)setsockopt(conn->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    move(conn, CONNECTING);
    if (connect(conn->fd, (struct sockaddr *)&wish.addr, sizeof wish.addr) < 0 &&
        errno != EINPROGRESS) {
        held.refused++;
        break_off(conn);
        return;
    }
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, conn->fd, &event) < 0)
        die("epoll_ctl");
}

static void send_one(struct conn *conn, uint64_t meant_ns)
{
    struct window *window = window_of(meant_ns);

    window->offered++;
    latencies_add(&window->lag, was_free ? (now_ns - meant_ns) / 1000 : 0);
    conn->meant_ns = meant_ns;
    conn->sent_ns = now_ns;
    conn->is_in_body = conn->must_close = false;
    conn->head_len = 0;
    move(conn, BUSY);
    /* A request fits into an empty socket. */
    if (send(conn->fd, request, request_len, MSG_NOSIGNAL) != (ssize_t)request_len)
        lose(conn, false);
}

/* ---- answers ---- */

/* The value of a field, or NULL; `name` with its colon. The head has a NUL behind it. */
static const char *field(const char *head, const char *name)
{
    size_t len = strlen(name);

    for (const char *at = strstr(head, "\r\n"); at != NULL; at = strstr(at + 2, "\r\n")) {
        if (strncasecmp(at + 2, name, len) == 0)
            return at + 2 + len + strspn(at + 2 + len, " ");
    }
    return NULL;
}

/* False: it is no answer, or none that we can read. */
static bool read_head(struct conn *conn)
{
    const char *length = field(conn->head, "content-length:");
    const char *connection = field(conn->head, "connection:");

    if (strncmp(conn->head, "HTTP/1.1 ", 9) != 0)
        return false;
    conn->status = (uint32_t)strtoul(conn->head + 9, NULL, 10);
    if (length == NULL && conn->status != 204 && conn->status != 304)
        return false;
    conn->body_left = length != NULL ? strtoull(length, NULL, 10) : 0;
    conn->must_close = connection != NULL && strncasecmp(connection, "close", 5) == 0;
    conn->is_in_body = true;
    return true;
}

static void note_advice(const struct conn *conn)
{
    struct window *window = window_of(conn->meant_ns);

    if (conn->status == 503 && field(conn->head, "retry-after:") != NULL)
        window->advised++;
}

/* Takes `len` bytes, of which those of the head go to conn->head. False: they make no answer. */
static bool take(struct conn *conn, const char *bytes, size_t len)
{
    if (!conn->is_in_body) {
        size_t had = conn->head_len, room = HEAD_MAX - 1 - had;
        size_t taken = len < room ? len : room;
        const char *end;

        memcpy(conn->head + had, bytes, taken);
        conn->head[had + taken] = '\0';
        conn->head_len += (uint32_t)taken;
        end = strstr(conn->head, "\r\n\r\n");
        if (end == NULL)
            return taken == len;
        conn->head[end + 2 - conn->head] = '\0';
        len -= (size_t)(end + 4 - conn->head) - had;
        if (!read_head(conn))
            return false;
    }
    if (len > conn->body_left)
        return false;
    conn->body_left -= len;
    return true;
}

static void on_readable(struct conn *conn)
{
    static char bytes[65536];
    ssize_t got = recv(conn->fd, bytes, sizeof bytes, 0);

    if (got < 0 && errno == EAGAIN)
        return;
    if (got <= 0 || conn->state != BUSY || !take(conn, bytes, (size_t)got)) {
        lose(conn, false);
        return;
    }
    if ((size_t)got == sizeof bytes) {
        on_readable(conn);
        return;
    }
    if (!conn->is_in_body || conn->body_left > 0)
        return;
    note_answer(conn);
    note_advice(conn);
    if (conn->must_close)
        break_off(conn);
    else
        move(conn, IDLE);
}

static void on_event(struct conn *conn, uint32_t events)
{
    if (conn->fd < 0)
        return;
    if (conn->state == CONNECTING) {
        if ((events & (EPOLLERR | EPOLLHUP)) != 0) {
            held.refused++;
            break_off(conn);
        } else if ((events & EPOLLOUT) != 0) {
            move(conn, IDLE);
        }
        return;
    }
    if ((events & EPOLLIN) != 0)
        on_readable(conn);
    if (conn->fd >= 0 && (events & (EPOLLERR | EPOLLHUP | EPOLLRDHUP)) != 0)
        lose(conn, false);
}

/* ---- the loop ---- */

/* What was to be sent, and has found no connection in all of its time. */
static void drop_late(void)
{
    while (next_ns < end_ns && next_ns + wish.timeout_ns <= now_ns) {
        struct window *window = window_of(next_ns);

        window->offered++;
        window->unsent++;
        next_ns = begun_ns + arrivals_next(&arrivals);
    }
}

static void send_due(void)
{
    struct conn *conn;

    if (wish.rate > 0)
        drop_late();
    while ((conn = first(IDLE)) != NULL) {
        if (wish.rate > 0) {
            if (next_ns > now_ns || next_ns >= end_ns)
                return;
            send_one(conn, next_ns);
            next_ns = begun_ns + arrivals_next(&arrivals);
            read_clock(); /* the next one may be late because of this one */
        } else {
            if (now_ns >= end_ns)
                return;
            send_one(conn, now_ns);
        }
    }
}

static bool is_late(const struct conn *conn)
{
    if (wish.answer_ns > 0)
        return conn->sent_ns + wish.answer_ns <= now_ns;
    return conn->meant_ns + wish.timeout_ns <= now_ns;
}

/* Requests are sent in the order in which they were meant to be: the first one is the oldest. */
static void end_late(void)
{
    struct conn *conn;

    while ((conn = first(BUSY)) != NULL && is_late(conn))
        lose(conn, true);
    for (uint32_t left = wish.conns; left > 0 && (conn = first(BROKEN)) != NULL; left--) {
        if (conn->meant_ns + CALM_NS > now_ns)
            break;
        open_conn(conn);
    }
}

static void wait_events(uint64_t until_ns)
{
    struct epoll_event events[EVENTS_MAX];
    uint64_t left_ns = until_ns > now_ns ? until_ns - now_ns : 0;
    struct timespec wait;
    int count;

    if (left_ns > CALM_NS)
        left_ns = CALM_NS;
    wait = (struct timespec){.tv_nsec = (long)left_ns};
    count = epoll_pwait2(epoll_fd, events, EVENTS_MAX, &wait, NULL);
    if (count < 0 && errno != EINTR)
        die("epoll_pwait2");
    read_clock();
    for (int i = 0; i < count; i++)
        on_event(events[i].data.ptr, events[i].events);
}

static volatile sig_atomic_t must_end;

static void on_term(int signal)
{
    (void)signal;
    must_end = 1;
}

/* What was to be sent until now is, and is waited for. */
static void end_sooner(void)
{
    if (!must_end || now_ns >= end_ns || wish.windows > 1)
        return;
    end_ns = now_ns;
    wish.seconds = (double)(end_ns - begun_ns) / 1e9 - wish.warm_s;
}

static bool goes_on(void)
{
    return now_ns < end_ns || first(BUSY) != NULL || (wish.rate > 0 && next_ns < end_ns);
}

static uint32_t count_idle(void)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < wish.conns; i++)
        count += conns[i].state == IDLE;
    return count;
}

/* Opens all connections. Those that are not open in time come later; one must be. */
static void open_all(void)
{
    read_clock();
    begun_ns = now_ns;
    end_ns = UINT64_MAX;
    for (uint32_t i = 0; i < wish.conns; i++) {
        open_conn(&conns[i]);
        if (i % 256 == 255)
            wait_events(now_ns);
    }
    while ((first(CONNECTING) != NULL || first(BROKEN) != NULL) &&
           now_ns < begun_ns + (first(IDLE) != NULL ? open_ns : open_ns / 5)) {
        wait_events(now_ns + CALM_NS);
        end_late();
    }
    if (first(IDLE) == NULL) {
        errno = 0;
        die("cannot connect");
    }
    held.begun = count_idle();
}

static void run(void)
{
    open_all();
    fprintf(stderr, "begun\n");
    read_clock();
    begun_ns = now_ns;
    end_ns = begun_ns + (uint64_t)((wish.warm_s + wish.seconds) * 1e9);
    if (wish.rate > 0) {
        arrivals_init(&arrivals, wish.rate, wish.is_poisson, wish.seed);
        next_ns = begun_ns + arrivals_next(&arrivals);
    }
    while (goes_on()) {
        send_due();
        was_free = first(IDLE) != NULL;
        wait_events(wish.rate > 0 && was_free && next_ns < end_ns ? next_ns : now_ns + CALM_NS);
        end_late();
        end_sooner();
    }
    held.ended = count_idle();
}

/* ---- telling ---- */

static void tell_times(const char *name, const struct latencies *latencies, const char *end)
{
    printf("\"%s\": {\"count\": %llu, \"p50_us\": %llu, \"p90_us\": %llu, \"p99_us\": %llu, "
           "\"p999_us\": %llu, \"max_us\": %llu}%s",
           name, (unsigned long long)latencies->count,
           (unsigned long long)latencies_quantile(latencies, 0.5),
           (unsigned long long)latencies_quantile(latencies, 0.9),
           (unsigned long long)latencies_quantile(latencies, 0.99),
           (unsigned long long)latencies_quantile(latencies, 0.999),
           (unsigned long long)latencies->max_us, end);
}

static void tell(const struct window *window, double seconds)
{
    uint64_t answered = 0;

    for (uint32_t i = 0; i < CLASSES; i++)
        answered += window->seen[i].count;
    printf("{\"seconds\": %.3f, \"offered\": %.1f, \"answered\": %.1f, \"goodput\": %.1f, ",
           seconds, (double)window->offered / seconds, (double)answered / seconds,
           (double)window->seen[ANSWERED_2XX].count / seconds);
    printf("\"requests\": %llu, \"errors\": %llu, \"timeouts\": %llu, \"retry_after\": %llu, ",
           (unsigned long long)window->offered, (unsigned long long)window->errors,
           (unsigned long long)(window->unsent + window->unanswered),
           (unsigned long long)window->advised);
    printf("\"unsent\": %llu, \"unanswered\": %llu, ", (unsigned long long)window->unsent,
           (unsigned long long)window->unanswered);
    tell_times("2xx", &window->seen[ANSWERED_2XX], ", ");
    tell_times("503", &window->seen[ANSWERED_503], ", ");
    tell_times("other", &window->seen[ANSWERED_OTHER], ", ");
    tell_times("held", &window->held, ", ");
    tell_times("lag", &window->lag, "}");
}

static void merge(struct window *all, const struct window *part)
{
    all->offered += part->offered;
    all->errors += part->errors;
    all->unsent += part->unsent;
    all->unanswered += part->unanswered;
    all->advised += part->advised;
    for (uint32_t i = 0; i < CLASSES; i++)
        latencies_merge(&all->seen[i], &part->seen[i]);
    latencies_merge(&all->held, &part->held);
    latencies_merge(&all->lag, &part->lag);
}

static void tell_all(void)
{
    struct window *all = calloc(1, sizeof *all);

    if (all == NULL)
        die("memory");
    for (uint32_t i = 0; i < wish.windows; i++)
        merge(all, &windows[i]);
    printf("{\"total\": ");
    tell(all, wish.seconds);
    printf(", \"windows\": [");
    for (uint32_t i = 0; i < wish.windows; i++) {
        printf("%s\n ", i > 0 ? "," : "");
        tell(&windows[i], wish.seconds / wish.windows);
    }
    printf("],\n \"warm\": ");
    tell(&windows[wish.windows], wish.warm_s > 0 ? wish.warm_s : 1);
    printf(",\n \"connections\": {\"begun\": %u, \"ended\": %u, \"refused\": %llu, \"lost\": "
           "%llu}}\n",
           held.begun, held.ended, (unsigned long long)held.refused, (unsigned long long)held.lost);
    free(all);
}

/* ---- the command line ---- */

static double number(const char *text, double min, double max)
{
    char *end;
    double value = strtod(text, &end);

    errno = 0;
    if (end == text || *end != '\0' || !(value >= min && value <= max)) {
        fprintf(stderr, "openloop: '%s' is no number from %g to %g\n", text, min, max);
        exit(2);
    }
    return value;
}

static void set_target(char *target)
{
    char *colon = strrchr(target, ':');

    errno = 0;
    if (colon == NULL)
        die("the target is not ADDRESS:PORT");
    wish.addr.sin_family = AF_INET;
    wish.addr.sin_port = htons((uint16_t)number(colon + 1, 1, 65535));
    *colon = '\0';
    if (inet_pton(AF_INET, target, &wish.addr.sin_addr) != 1)
        die("the target's address is no IPv4 address");
    wish.host = target;
}

static void set_option(int letter)
{
    switch (letter) {
    case 'r':
        wish.rate = number(optarg, 0, 1e7);
        return;
    case 'd':
        wish.seconds = number(optarg, 0.01, 86400);
        return;
    case 'w':
        wish.warm_s = number(optarg, 0, 3600);
        return;
    case 'c':
        wish.conns = (uint32_t)number(optarg, 1, CONNECTIONS_MAX);
        return;
    case 't':
        wish.timeout_ns = (uint64_t)(number(optarg, 1, 600000) * 1e6);
        return;
    case 'a':
        wish.answer_ns = (uint64_t)(number(optarg, 1, 600000) * 1e6);
        return;
    case 'n':
        wish.windows = (uint32_t)number(optarg, 1, WINDOWS_MAX);
        return;
    case 'p':
        wish.is_poisson = true;
        return;
    case 's':
        wish.seed = (uint64_t)number(optarg, 0, 1e15);
        return;
    default: /* getopt has said what is wrong */
        exit(2);
    }
}

static void prepare(void)
{
    struct rlimit files;
    int len = snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: %s\r\n\r\n", wish.path,
                       wish.host);

    if (len < 0 || (size_t)len >= sizeof request)
        die("the path is too long");
    request_len = (size_t)len;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &files);
    }
    (void)prctl(PR_SET_TIMERSLACK, 1000, 0, 0, 0);
    for (uint32_t i = CONNECTING; i <= BROKEN; i++)
        lists[i].next = lists[i].prev = &lists[i];
    conns = calloc(wish.conns, sizeof *conns);
    windows = calloc(wish.windows + 1, sizeof *windows);
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (conns == NULL || windows == NULL || epoll_fd < 0)
        die("preparing");
}

int main(int argc, char **argv)
{
    int letter;

    while ((letter = getopt(argc, argv, "r:d:w:c:t:n:ps:a:")) != -1)
        set_option(letter);
    if (argc - optind != 2 || argv[optind + 1][0] != '/') {
        fprintf(stderr, "usage: openloop [-r RATE] [-d SECONDS] [-w SECONDS] [-c CONNECTIONS] "
                        "[-t MS] [-a MS] [-n WINDOWS] [-p] [-s SEED] ADDRESS:PORT PATH\n");
        return 2;
    }
    set_target(argv[optind]);
    wish.path = argv[optind + 1];
    prepare();
    (void)signal(SIGTERM, on_term);
    run();
    tell_all();
    free(conns);
    free(windows);
    return 0;
}
