/* server/ask.c - finds a running host by its settings, and has it obey a command. */
#include "server/ask.h"
#include "base/buf.h"
#include "base/check.h"
#include "base/mem.h"
#include "server/nearby.h"
#include "server/place.h"
#include "server/runtime.h"
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { SILENCE_MS = 10000, READ_SIZE = 4096 };

/* The way to a host. */
struct way {
    char tried[PATH_MAX]; /* the first path that was tried */
    int error;            /* why it cannot be reached, where that is not that nobody is there */
    int fd;               /* connected; -1: not yet */
};

static bool try_path(struct way *way, const char *path)
{
    if (way->tried[0] == '\0')
        snprintf(way->tried, sizeof way->tried, "%s", path);
    way->fd = nearby_connect(path);
    if (way->fd < 0 && errno != ENOENT && errno != ECONNREFUSED && errno != ENOTDIR)
        way->error = errno;
    return way->fd >= 0;
}

static bool on_folder(void *data, const char *folder)
{
    char path[PATH_MAX + sizeof RUNTIME_CONTROL];

    snprintf(path, sizeof path, "%s/%s", folder, RUNTIME_CONTROL);
    return try_path(data, path);
}

/* Says what is wrong with the file, and goes on with what it says nonetheless. */
static void find(const char *ini, const char *const *overrides, struct way *way)
{
    struct place place;
    char problem[INI_PROBLEM_SIZE];

    if (place_find(ini, overrides, &place, problem) != ERR_OK)
        fprintf(stderr, "weft: %s\n", problem);
    if (place.control[0] != '\0')
        (void)try_path(way, place.control);
    else
        (void)runtime_each(place.runtime_dir, ini, on_folder, way);
    place_clear(&place);
}

/* One line of the host's. True: it was the last, `code` is set. */
static bool take_line(const char *line, int *code)
{
    switch (line[0]) {
    case '+':
        puts(line + 1);
        return false;
    case '!':
        fflush(stdout);
        fprintf(stderr, "weft: %s\n", line + 1);
        return false;
    case '=':
        *code = atoi(line + 1);
        return true;
    default: /* who it is, or a sign of life */
        return false;
    }
}

/* The lines that `in` holds. */
static bool take_lines(struct buf *in, int *code)
{
    char *end;
    bool is_last = false;

    while (!is_last && in->len > 0 && (end = memchr(in->data, '\n', in->len)) != NULL) {
        *end = '\0';
        is_last = take_line(in->data, code);
        buf_consume(in, (size_t)(end - in->data) + 1);
    }
    return is_last;
}

/* Waits for bytes and reads them; false: none come, *why says what that means. */
static bool read_some(int fd, struct buf *in, const char **why)
{
    struct pollfd wait = {.fd = fd, .events = POLLIN};
    ssize_t got;
    int ready;

    do
        ready = poll(&wait, 1, SILENCE_MS);
    while (ready < 0 && errno == EINTR);
    *why = "it does not answer: it is stopped, or very busy";
    if (ready <= 0)
        return false;
    got = recv(fd, buf_reserve(in, READ_SIZE), READ_SIZE, 0);
    *why = "it ended before it had answered";
    if (got <= 0)
        return false;
    buf_commit(in, (size_t)got);
    return true;
}

static int converse(int fd, const char *line)
{
    const char *why = "it takes no commands";
    char *request = mem_format("%s\n", line);
    int code = ASK_EXIT_FAILED;
    bool is_answered = false;
    struct buf in;

    buf_init(&in, NULL);
    /* A host that takes nothing is found by its silence. */
    (void)send(fd, request, strlen(request), MSG_NOSIGNAL);
    while (!is_answered && read_some(fd, &in, &why))
        is_answered = take_lines(&in, &code);
    if (!is_answered)
        fprintf(stderr, "weft: the host was asked to %s, but %s\n", line, why);
    buf_release(&in);
    mem_free(request);
    return fflush(stdout) == 0 || code != 0 ? code : ASK_EXIT_FAILED;
}

int ask_host(const char *ini, const char *const *overrides, const char *line)
{
    struct way way = {.fd = -1};

    CHECK(line != NULL);
    find(ini, overrides, &way);
    if (way.fd < 0 && way.error != 0) {
        fprintf(stderr, "weft: %s: %s\n", way.tried, strerror(way.error));
        return ASK_EXIT_FAILED;
    }
    if (way.fd < 0) {
        fprintf(stderr, "weft: no host runs with %s: nobody listens at %s\n", ini, way.tried);
        return ASK_EXIT_NO_HOST;
    }
    int code = converse(way.fd, line);
    close(way.fd);
    return code;
}
