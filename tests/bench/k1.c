/* k1 - what a request costs where nothing is done for it: the limit that `./run bench` measures by.
 *
 *   k1 PORT      listens on 127.0.0.1, one thread
 *
 * A bare epoll loop. It looks for the blank line that ends a head, and answers each with the same
 * text, whose Date is of this second: all of one read with one send(). It parses nothing, times
 * nothing, and a client that does not take an answer at once is closed.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { FILES_MAX = 65536, EVENTS_MAX = 512, ANSWERS_MAX = 1024, READ_MAX = 65536 };

static char answers[ANSWERS_MAX * 256]; /* the answer, over and over */
static size_t answer_size;
static time_t answer_time; /* the second that its Date is of */
static uint8_t
    matched[FILES_MAX]; /* by socket: bytes of "\r\n\r\n" that its last read ended with */

static void die(const char *what)
{
    perror(what);
    exit(1);
}

/* Writes the answers anew where their Date is not of this second. */
static void write_answers(void)
{
    char date[64], text[256];
    struct timespec now;
    struct tm parts;

    clock_gettime(CLOCK_REALTIME_COARSE, &now);
    if (now.tv_sec == answer_time)
        return;
    answer_time = now.tv_sec;
    gmtime_r(&now.tv_sec, &parts);
    strftime(date, sizeof date, "%a, %d %b %Y %H:%M:%S GMT", &parts);
    answer_size =
        (size_t)snprintf(text, sizeof text,
                         "HTTP/1.1 200 OK\r\nServer: k1\r\nDate: %s\r\n"
                         "Content-Type: text/plain\r\nContent-Length: 13\r\n\r\nHello, World!",
                         date);
    for (size_t i = 0; i < ANSWERS_MAX; i++)
        memcpy(answers + i * answer_size, text, answer_size);
}

/* How far a match of "\r\n\r\n" is after one more byte. */
static uint8_t step(uint8_t state, char byte)
{
    if (byte == (state % 2 == 0 ? '\r' : '\n'))
        return (uint8_t)(state + 1);
    return byte == '\r';
}

/* How many heads end in the bytes that were read. */
static unsigned count_heads(int fd, const char *at, const char *end)
{
    uint8_t state = matched[fd];
    unsigned count = 0;

    while (state > 0 && at < end) {
        state = step(state, *at++);
        if (state == 4) {
            state = 0;
            count++;
        }
    }
    for (const char *found; (found = memmem(at, (size_t)(end - at), "\r\n\r\n", 4)) != NULL;
         at = found + 4)
        count++;
    if (end - at > 3)
        at = end - 3;
    while (at < end)
        state = step(state, *at++);
    matched[fd] = state;
    return count;
}

/* Answers all that can be read at once; false where the connection is over. */
static bool serve(int fd)
{
    static char buf[READ_MAX];
    ssize_t size = recv(fd, buf, sizeof buf, MSG_DONTWAIT);
    unsigned count;

    if (size <= 0)
        return false;
    for (count = count_heads(fd, buf, buf + size); count > 0;) {
        unsigned now = count < ANSWERS_MAX ? count : ANSWERS_MAX;

        if (send(fd, answers, now * answer_size, MSG_NOSIGNAL) != (ssize_t)(now * answer_size))
            return false;
        count -= now;
    }
    return true;
}

static int listen_on(uint16_t port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), one = 1;

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(fd, (struct sockaddr *)&address, sizeof address) != 0 || listen(fd, 4096) != 0)
        die("k1: listen");
    return fd;
}

static void watch(int epoll, int fd)
{
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};

    if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) != 0)
        die("k1: epoll_ctl");
}

static void accept_all(int epoll, int listener)
{
    int fd, one = 1;

    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        if (fd >= FILES_MAX) {
            close(fd);
            continue;
        }
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        matched[fd] = 0;
        watch(epoll, fd);
    }
}

int main(int argc, char **argv)
{
    int epoll = epoll_create1(EPOLL_CLOEXEC), listener;
    struct epoll_event events[EVENTS_MAX];

    if (argc != 2 || atoi(argv[1]) <= 0 || atoi(argv[1]) > 65535) {
        fprintf(stderr, "usage: k1 PORT\n");
        return 2;
    }
    listener = listen_on((uint16_t)atoi(argv[1]));
    watch(epoll, listener);
    for (;;) {
        int count = epoll_wait(epoll, events, EVENTS_MAX, 1000);

        write_answers();
        for (int i = 0; i < count; i++) {
            int fd = events[i].data.fd;

            if (fd == listener)
                accept_all(epoll, listener);
            else if (!serve(fd))
                close(fd);
        }
    }
}
