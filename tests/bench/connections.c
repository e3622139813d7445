/* bench/connections.c - many connections: held, or coming and going.
 *
 *   connections [OPTION...] ADDRESS:PORT PATH
 *
 *     -n COUNT     connections at once (1000)
 *     -s ADDRESS   the client's own (the kernel's choice): some 28,000 ports for one server
 *     -d SECONDS   coming and going for so long: each makes one request, which asks for the end of
 *                  the connection, and reads to that; prints what came of them as JSON
 *     -a PATH      with -d: they come and go as a crowd. All connect, one after the other, and make
 *                  their request; then all at once one of this path; when all are answered, they
 *                  go, and come
 *     -e SECONDS   with -a: a crowd comes at each multiple of so many seconds (as soon as the one
 *                  before it went)
 *
 * Without -d they are held: each makes one request, "held COUNT" is printed, and then lines of
 * stdin are obeyed, and answered with a line each: "ask PATH" sends a request on each of them;
 * "take" waits for all answers, "taken COUNT" says how many of them were 200. At the end of stdin
 * all are closed.
 */
#include "bench/load.h"
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

enum { ANSWER_MAX = 16384, EVENTS_MAX = 256, WAIT_S = 60, CONNECTIONS_MAX = 100000 };

static struct {
    struct sockaddr_in server, client;
    const char *path;
    const char *then; /* of a crowd; NULL */
    uint32_t count;
    double seconds;
    double every; /* seconds */
    bool has_client;
} wish = {.count = 1000};

static _Noreturn void fail(const char *what)
{
    fprintf(stderr, "connections: %s: %s\n", what, strerror(errno));
    exit(1);
}

static uint64_t now_us(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

static int open_socket(int flags)
{
    const struct timeval wait = {.tv_sec = WAIT_S};
    const int yes = 1;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | flags, 0);

    if (fd < 0)
        fail("socket");
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
    if (!wish.has_client)
        return fd;
    (void)setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &yes, sizeof yes);
    if (bind(fd, (const struct sockaddr *)&wish.client, sizeof wish.client) != 0)
        fail("bind");
    return fd;
}

static void ask(int fd, const char *path, bool is_last)
{
    char text[2048];
    int len = snprintf(text, sizeof text, "GET %s HTTP/1.1\r\nHost: weft\r\n%s\r\n", path,
                       is_last ? "Connection: close\r\n" : "");

    if (len >= (int)sizeof text || send(fd, text, (size_t)len, MSG_NOSIGNAL) != len)
        fail("send");
}

/* ---- held ---- */

/* Reads one answer, which has a Content-Length, to its end. True: it is a 200. */
static bool take(int fd)
{
    static char text[ANSWER_MAX + 1];
    size_t len = 0, whole = 0;

    while (whole == 0 || len < whole) {
        const char *head_end, *length;
        ssize_t got = recv(fd, text + len, ANSWER_MAX - len, 0);

        if (got <= 0)
            return false;
        len += (size_t)got;
        text[len] = '\0';
        head_end = strstr(text, "\r\n\r\n");
        length = strstr(text, "\r\nContent-Length:");
        if (whole == 0 && head_end != NULL) {
            if (length == NULL || length > head_end)
                return false;
            whole = (size_t)(head_end + 4 - text) + strtoul(length + 17, NULL, 10);
        }
        if (whole > ANSWER_MAX || len == ANSWER_MAX)
            return false;
    }
    return len == whole && strncmp(text, "HTTP/1.1 200 ", 13) == 0;
}

static void obey(const int *fds, char *line)
{
    uint32_t count = 0;

    line[strcspn(line, "\n")] = '\0';
    if (strncmp(line, "ask ", 4) == 0) {
        for (uint32_t i = 0; i < wish.count; i++)
            ask(fds[i], line + 4, false);
        printf("asked %u\n", wish.count);
    } else if (strcmp(line, "take") == 0) {
        for (uint32_t i = 0; i < wish.count; i++)
            count += take(fds[i]);
        printf("taken %u\n", count);
    } else {
        printf("what is %s?\n", line);
    }
}

static int hold(void)
{
    int *fds = calloc(wish.count, sizeof *fds);
    char line[1024];

    if (fds == NULL)
        fail("memory");
    for (uint32_t i = 0; i < wish.count; i++) {
        fds[i] = open_socket(0);
        if (connect(fds[i], (const struct sockaddr *)&wish.server, sizeof wish.server) != 0)
            fail("connect");
        ask(fds[i], wish.path, false);
        if (!take(fds[i])) {
            fprintf(stderr, "connections: number %u was not answered\n", i);
            return 1;
        }
    }
    printf("held %u\n", wish.count);
    while (fgets(line, sizeof line, stdin) != NULL)
        obey(fds, line);
    free(fds);
    return 0;
}

/* ---- crowds ---- */

static bool visit_once(int *fd)
{
    *fd = open_socket(0);
    if (connect(*fd, (const struct sockaddr *)&wish.server, sizeof wish.server) != 0)
        return false;
    ask(*fd, wish.path, false);
    return take(*fd);
}

/* Until it is time for the next crowd. */
static void pause_since(uint64_t begun_us)
{
    uint64_t every_us = (uint64_t)(wish.every * 1e6), late_us = 0;

    if (every_us > 0)
        late_us = (now_us() - begun_us) % every_us;
    if (late_us > 0)
        (void)usleep((useconds_t)(every_us - late_us));
}

static int come_as_crowds(void)
{
    int *fds = calloc(wish.count, sizeof *fds);
    uint64_t begun_us = now_us(), until_us = begun_us + (uint64_t)(wish.seconds * 1e6);
    unsigned long long done = 0, errors = 0;

    if (fds == NULL)
        fail("memory");
    for (; now_us() < until_us; pause_since(begun_us)) {
        for (uint32_t i = 0; i < wish.count; i++)
            errors += !visit_once(&fds[i]);
        for (uint32_t i = 0; i < wish.count; i++)
            ask(fds[i], wish.then, false);
        for (uint32_t i = 0; i < wish.count; i++) {
            errors += !take(fds[i]);
            (void)close(fds[i]);
        }
        done += wish.count;
    }
    printf("{\"connections\": %llu, \"errors\": %llu, \"seconds\": %.3f}\n", done, errors,
           (double)(now_us() - begun_us) / 1e6);
    free(fds);
    return 0;
}

/* ---- coming and going ---- */

struct visit {
    uint64_t since_us; /* when it began */
    int fd;
    bool is_asked;    /* connected, and the request is sent */
    bool is_answered; /* with 200 */
};

static struct {
    int epoll_fd;
    uint64_t done, errors;
    struct latencies seen;
} churn;

static void begin(struct visit *visit)
{
    struct epoll_event event = {.events = EPOLLOUT, .data.ptr = visit};

    *visit = (struct visit){.since_us = now_us(), .fd = open_socket(SOCK_NONBLOCK)};
    if (connect(visit->fd, (const struct sockaddr *)&wish.server, sizeof wish.server) != 0 &&
        errno != EINPROGRESS)
        fail("connect");
    if (epoll_ctl(churn.epoll_fd, EPOLL_CTL_ADD, visit->fd, &event) != 0)
        fail("epoll_ctl");
}

static void end(struct visit *visit)
{
    if (visit->is_answered) {
        churn.done++;
        latencies_add(&churn.seen, now_us() - visit->since_us);
    } else {
        churn.errors++;
    }
    (void)close(visit->fd);
    begin(visit);
}

static void on_event(struct visit *visit, uint32_t events)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = visit};
    char text[ANSWER_MAX];
    ssize_t got;

    if (!visit->is_asked && (events & (EPOLLERR | EPOLLHUP)) == 0) {
        visit->is_asked = true;
        ask(visit->fd, wish.path, true);
        (void)epoll_ctl(churn.epoll_fd, EPOLL_CTL_MOD, visit->fd, &event);
        return;
    }
    got = recv(visit->fd, text, sizeof text, 0);
    if (got < 0 && errno == EAGAIN)
        return;
    if (got > 12 && !visit->is_answered && memcmp(text, "HTTP/1.1 200", 12) == 0)
        visit->is_answered = true;
    else if (got < 0)
        visit->is_answered = false;
    if (got <= 0)
        end(visit);
}

static int come_and_go(void)
{
    struct visit *visits = calloc(wish.count, sizeof *visits);
    struct epoll_event events[EVENTS_MAX];
    uint64_t begun_us = now_us(), until_us = begun_us + (uint64_t)(wish.seconds * 1e6), us;

    churn.epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (visits == NULL || churn.epoll_fd < 0)
        fail("memory");
    for (uint32_t i = 0; i < wish.count; i++)
        begin(&visits[i]);
    while ((us = now_us()) < until_us) {
        int count = epoll_wait(churn.epoll_fd, events, EVENTS_MAX, 100);

        for (int i = 0; i < count; i++)
            on_event(events[i].data.ptr, events[i].events);
    }
    printf("{\"connections\": %llu, \"errors\": %llu, \"seconds\": %.3f, \"p50_us\": %llu, "
           "\"p99_us\": %llu, "
           "\"max_us\": %llu}\n",
           (unsigned long long)churn.done, (unsigned long long)churn.errors,
           (double)(us - begun_us) / 1e6, (unsigned long long)latencies_quantile(&churn.seen, 0.5),
           (unsigned long long)latencies_quantile(&churn.seen, 0.99),
           (unsigned long long)churn.seen.max_us);
    free(visits);
    return 0;
}

/* ---- the command line ---- */

static _Noreturn void usage(void)
{
    fprintf(stderr,
            "connections [-n COUNT] [-s ADDRESS] [-d SECONDS [-a PATH [-e SECONDS]]] ADDRESS:PORT "
            "PATH\n");
    exit(2);
}

static void read_server(char *text)
{
    char *colon = strrchr(text, ':'), *rest;
    unsigned long port = colon != NULL ? strtoul(colon + 1, &rest, 10) : 0;

    if (port == 0 || port > 65535 || *rest != '\0')
        usage();
    *colon = '\0';
    wish.server = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    if (inet_pton(AF_INET, text, &wish.server.sin_addr) != 1)
        usage();
}

static void read_options(int argc, char **argv)
{
    char *rest = "";
    int option;

    while ((option = getopt(argc, argv, "n:s:d:a:e:")) != -1) {
        if (option == 'n')
            wish.count = (uint32_t)strtoul(optarg, &rest, 10);
        else if (option == 'd')
            wish.seconds = strtod(optarg, &rest);
        else if (option == 'e')
            wish.every = strtod(optarg, &rest);
        else if (option == 'a')
            wish.then = optarg;
        else if (option == 's')
            wish.has_client = inet_pton(AF_INET, optarg, &wish.client.sin_addr) == 1;
        if (option == '?' || *rest != '\0' || (option == 's' && !wish.has_client))
            usage();
    }
    if (optind != argc - 2 || wish.count == 0 || wish.count > CONNECTIONS_MAX || wish.seconds < 0 ||
        wish.every < 0)
        usage();
    wish.client.sin_family = AF_INET;
    read_server(argv[optind]);
    wish.path = argv[optind + 1];
}

int main(int argc, char **argv)
{
    struct rlimit files;

    (void)prctl(PR_SET_PDEATHSIG, SIGTERM);
    (void)setvbuf(stdout, NULL, _IOLBF, 0);
    read_options(argc, argv);
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &files);
    }
    if (wish.seconds > 0)
        return wish.then != NULL ? come_as_crowds() : come_and_go();
    return hold();
}
