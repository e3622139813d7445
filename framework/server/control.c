/* server/control.c - the master's control socket.
 *
 *   asker: READING ──▶ (a line) WAITING ──▶ ENDING (sends what is left) ──▶ closed
 *             └───────────┴────────────────────┴─▶ closed (it went, sent too much, took too long)
 *
 * An asker is freed by the loop, never inside control_*(), so that a callee may end it and go on.
 */
#include "server/control.h"
#include "base/buf.h"
#include "base/check.h"
#include "base/log.h"
#include "base/mem.h"
#include "server/nearby.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    ASK_MS = 5000,       /* until the whole line has come */
    TAKE_MS = 10000,     /* without the asker taking a byte of its answer */
    TICK_MS = 1000,      /* between signs of life */
    ANSWER_MAX = 4 << 20 /* bytes that were not taken */
};

enum asker_state { READING, WAITING, ENDING };

struct control_asker {
    struct control *control;     /* whose */
    struct list link;            /* among them */
    struct io io;                /* of the socket */
    struct ready step;           /* sends what was said, and frees who is done */
    struct buf out;              /* the answer that was not sent */
    enum asker_state state;      /* see above */
    uint32_t ticket;             /* what it waits for; 0: nothing */
    uint64_t since_ms;           /* when it came, or last took a byte */
    size_t len;                  /* bytes of line */
    int fd;                      /* its socket */
    char line[CONTROL_LINE_MAX]; /* what it asks */
};

static void drop(struct control_asker *asker)
{
    io_stop(&asker->io);
    ready_stop(&asker->step);
    list_remove(&asker->link);
    asker->control->_count--;
    buf_release(&asker->out);
    close(asker->fd);
    mem_free(asker);
}

/* False: it cannot be written to any more. */
static bool send_some(struct control_asker *asker)
{
    while (asker->out.len > 0) {
        ssize_t sent =
            send(asker->fd, asker->out.data, asker->out.len, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent < 0 && errno == EINTR)
            continue;
        if (sent < 0)
            return errno == EAGAIN;
        buf_consume(&asker->out, (size_t)sent);
        asker->since_ms = loop_now_ms(asker->control->_loop);
    }
    return true;
}

static void step(struct control_asker *asker)
{
    bool is_good = send_some(asker) && asker->out.len <= ANSWER_MAX;

    if (!is_good || (asker->state == ENDING && asker->out.len == 0)) {
        drop(asker);
        return;
    }
    io_update(&asker->io,
              (asker->state == ENDING ? 0u : IO_READ) | (asker->out.len > 0 ? IO_WRITE : 0u));
}

static void on_step(struct ready *ready)
{
    step(CONTAINER_OF(ready, struct control_asker, step));
}

static void say(struct control_asker *asker, char what, struct span text)
{
    if (asker->state == ENDING || asker->out.len > ANSWER_MAX)
        return;
    buf_append(&asker->out, (struct span){&what, 1});
    buf_append(&asker->out, text);
    buf_append(&asker->out, SPAN("\n"));
    ready_start(asker->control->_loop, &asker->step, on_step);
}

static void say_all(struct control_asker *asker, char what, const char *format, va_list args)
{
    char text[2048];
    int len = vsnprintf(text, sizeof text, format, args);

    CHECK(len >= 0);
    say(asker, what,
        (struct span){text, (size_t)len < sizeof text ? (size_t)len : sizeof text - 1});
}

void control_say(struct control_asker *asker, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    say_all(asker, '+', format, args);
    va_end(args);
}

void control_warn(struct control_asker *asker, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    say_all(asker, '!', format, args);
    va_end(args);
}

void control_end(struct control_asker *asker, int code)
{
    char digits[16];

    CHECK(asker->state == WAITING);
    snprintf(digits, sizeof digits, "%d", code);
    say(asker, '=', span_of(digits));
    asker->state = ENDING;
    asker->ticket = 0;
}

void control_wait(struct control_asker *asker, uint32_t ticket)
{
    CHECK(asker->state == WAITING);
    CHECK(ticket != 0);
    asker->ticket = ticket;
}

void control_each(struct control *control, uint32_t ticket,
                  void (*fn)(struct control_asker *asker, void *data), void *data)
{
    if (control->_fd < 0)
        return;
    LIST_EACH (&control->_askers, link) {
        struct control_asker *asker = CONTAINER_OF(link, struct control_asker, link);
        if (asker->state == WAITING && asker->ticket == ticket)
            fn(asker, data);
    }
}

static void warn_one(struct control_asker *asker, void *data)
{
    const char *at = data;

    for (size_t len; *at != '\0'; at += len + (at[len] == '\n')) {
        len = strcspn(at, "\n");
        say(asker, '!', (struct span){at, len});
    }
}

void control_warn_all(struct control *control, uint32_t ticket, const char *text)
{
    control_each(control, ticket, warn_one, (void *)(uintptr_t)text);
}

struct ending {
    const char *text; /* the last line */
    int code;         /* the exit code */
};

static void end_one(struct control_asker *asker, void *data)
{
    const struct ending *ending = data;

    say(asker, ending->code == 0 ? '+' : '!', span_of(ending->text));
    control_end(asker, ending->code);
}

void control_end_all(struct control *control, uint32_t ticket, int code, const char *text)
{
    struct ending ending = {text, code};

    control_each(control, ticket, end_one, &ending);
}

static void obey(struct control_asker *asker)
{
    struct control *control = asker->control;
    char *verb = asker->line;
    size_t len = strcspn(verb, " ");
    const char *rest = verb[len] == '\0' ? "" : verb + len + 1;

    verb[len] = '\0';
    asker->state = WAITING;
    control->_fn(control->_data, asker, verb, rest);
    CHECK(asker->state == ENDING || asker->ticket != 0);
}

/* The line so far; false: it went, or sends what it should not. */
static bool read_line(struct control_asker *asker)
{
    ssize_t got = recv(asker->fd, asker->line + asker->len, sizeof asker->line - asker->len, 0);
    char *end;

    if (got <= 0)
        return got < 0 && (errno == EAGAIN || errno == EINTR);
    if (asker->state != READING)
        return false;
    asker->len += (size_t)got;
    end = memchr(asker->line, '\n', asker->len);
    if (end == NULL)
        return asker->len < sizeof asker->line;
    *end = '\0';
    obey(asker);
    return true;
}

/* What the loop calls: note what happened, hand on. No policy below this line. */

static void on_asker(struct io *io, uint32_t events)
{
    struct control_asker *asker = CONTAINER_OF(io, struct control_asker, io);

    if ((events & (IO_ERROR | IO_HANGUP)) != 0 && (events & IO_READ) == 0) {
        drop(asker);
        return;
    }
    if ((events & IO_READ) != 0 && !read_line(asker)) {
        drop(asker);
        return;
    }
    step(asker);
}

/* Only root's and our own user's processes may command; the file's mode says the same, but a folder
 * may be restored from elsewhere. */
static bool is_allowed(int fd)
{
    struct ucred peer;
    socklen_t len = sizeof peer;

    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) != 0)
        return false;
    if (peer.uid == 0 || peer.uid == geteuid())
        return true;
    log_warn("control: process %d of user %u may not command: refused", (int)peer.pid, peer.uid);
    return false;
}

static void on_readable(struct io *io, uint32_t events)
{
    struct control *control = CONTAINER_OF(io, struct control, _io);
    int fd = accept4(control->_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

    (void)events;
    if (fd < 0)
        return;
    if (control->_count >= CONTROL_ASKERS_MAX || !is_allowed(fd)) {
        close(fd);
        return;
    }
    struct control_asker *asker = mem_alloc(sizeof *asker);
    asker->control = control;
    asker->fd = fd;
    asker->since_ms = loop_now_ms(control->_loop);
    buf_init(&asker->out, NULL);
    buf_format(&asker->out, "weft %d\n", (int)getpid());
    list_append(&control->_askers, &asker->link);
    control->_count++;
    io_start(control->_loop, &asker->io, fd, IO_READ | IO_WRITE, on_asker);
}

static void on_tick(struct timer *timer)
{
    struct control *control = CONTAINER_OF(timer, struct control, _tick);
    uint64_t now_ms = loop_now_ms(control->_loop);

    LIST_EACH (&control->_askers, link) {
        struct control_asker *asker = CONTAINER_OF(link, struct control_asker, link);
        if ((asker->state == READING && now_ms - asker->since_ms >= ASK_MS) ||
            (asker->out.len > 0 && now_ms - asker->since_ms >= TAKE_MS))
            drop(asker);
        else if (asker->state == WAITING && asker->out.len == 0)
            say(asker, '~', SPAN(""));
    }
    timer_start(control->_loop, timer, TICK_MS, on_tick);
}

/* ---- life ---- */

/* Listens under a name of our own first, so that at `path` there is always one host, or none. */
static bool listen_at(struct control *control, const char *path)
{
    char before[PATH_MAX];
    struct stat st;

    if (snprintf(before, sizeof before, "%s.%d", path, (int)getpid()) >= (int)sizeof before) {
        errno = ENAMETOOLONG;
        return false;
    }
    (void)unlink(before);
    control->_fd = nearby_listen(before);
    if (control->_fd < 0)
        return false;
    if (lstat(before, &st) == 0 && rename(before, path) == 0) {
        control->_device = st.st_dev;
        control->_inode = st.st_ino;
        return true;
    }
    int saved = errno;
    (void)unlink(before);
    close(control->_fd);
    control->_fd = -1;
    errno = saved;
    return false;
}

enum err control_open(struct control *control, struct loop *loop, const char *path, bool takes_over,
                      char problem[INI_PROBLEM_SIZE])
{
    CHECK(path != NULL);
    *control = (struct control){._loop = loop, ._fd = -1};
    list_init(&control->_askers);
    if (!takes_over) {
        int other = nearby_connect(path);
        if (other >= 0) {
            close(other);
            snprintf(problem, INI_PROBLEM_SIZE, "control: %.300s: another host answers there",
                     path);
            return ERR_EXISTS;
        }
    }
    snprintf(control->_path, sizeof control->_path, "%s", path);
    if (listen_at(control, path))
        return ERR_OK;
    snprintf(problem, INI_PROBLEM_SIZE, "control: %.300s: %s", path, strerror(errno));
    return ERR_IO;
}

void control_start(struct control *control, control_fn *fn, void *data)
{
    CHECK(control->_fd >= 0);
    CHECK(fn != NULL);
    control->_fn = fn;
    control->_data = data;
    io_start(control->_loop, &control->_io, control->_fd, IO_READ, on_readable);
    timer_start(control->_loop, &control->_tick, TICK_MS, on_tick);
}

void control_close(struct control *control)
{
    struct list *link;
    struct stat st;

    if (control->_fd < 0)
        return;
    while ((link = list_first(&control->_askers)) != NULL) {
        struct control_asker *asker = CONTAINER_OF(link, struct control_asker, link);
        (void)send_some(asker);
        drop(asker);
    }
    timer_stop(&control->_tick);
    io_stop(&control->_io);
    close(control->_fd);
    control->_fd = -1;
    if (lstat(control->_path, &st) == 0 && st.st_dev == control->_device &&
        st.st_ino == control->_inode)
        (void)unlink(control->_path);
}

void control_abandon(struct control *control)
{
    if (control->_fd < 0)
        return;
    LIST_EACH (&control->_askers, link) {
        close(CONTAINER_OF(link, struct control_asker, link)->fd);
    }
    close(control->_fd);
}
