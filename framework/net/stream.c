/* net/stream.c - a connected socket with borrowed buffers: bytes in, bytes out.
 *
 *   reading:  ON ──▶ STOPPED (paused, or `in` is full) ──▶ ON
 *              └─────────────┴──▶ ENDED
 *   writing:  IDLE ──▶ BLOCKED (the kernel is full) ──▶ IDLE ──▶ SHUT
 *                └───────┴──▶ BROKEN (told as soon as there is nothing more to read)
 *
 * What changes either only sets flags and arms `_settle`. That hook is the one place that sends,
 * gives storage back and tells the kernel what to watch, once a turn: a request that is read,
 * answered and done costs one recv and one send.
 *
 * A level-triggered event that nobody takes would come again each turn, so what has been seen is no
 * longer asked for: FIN by leaving IO_PEER_CLOSED out; a hang-up, which comes unasked, by leaving
 * the loop until there is something to read or write again.
 *
 * A file goes behind what was written, a piece a turn: `is blocked` stays on until its end, so that
 * the kernel calls again as soon as there is room for more.
 *
 * A broken pipe is no reason not to read: an answer may have come before it.
 *
 * Closed: everything is stopped, storage and descriptor are given back, nothing runs any more.
 */
#include "net/stream.h"
#include "base/check.h"
#include "net/tls.h"

#include <assert.h>
#include <errno.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <unistd.h>

static_assert(ERR_COUNT <= UINT8_MAX, "errors of a stream are bytes");

/* With less room than this a larger piece is taken before reading. */
enum { READ_ROOM_MIN = 4096 };

/* Of a file that is copied through `out`, at once. */
enum { FILE_COPY = 65536 };

static void on_turn_end(struct hook *hook);

/* Something changed that the end of the turn has to deal with. */
static void settle_later(struct stream *stream)
{
    hook_start(stream->_loop, &stream->_settle, on_turn_end);
}

static enum err err_of(int os_error)
{
    switch (os_error) {
    case ECONNRESET:
    case EPIPE:
        return ERR_RESET;
    case ETIMEDOUT:
        return ERR_TIMED_OUT;
    default:
        return ERR_IO;
    }
}

static bool may_read(const struct stream *stream)
{
    return !stream->_is_ended && !stream->_is_paused && stream->in.len < stream->in_max;
}

static void drop_file(struct stream *stream)
{
    if (stream->_file.is_on)
        (void)close(stream->_file.fd);
    stream->_file = (struct stream_file){.fd = -1};
}

static void stop_all(struct stream *stream)
{
    io_stop(&stream->_io);
    hook_stop(&stream->_settle);
    ready_stop(&stream->_again);
}

/* The functions down to on_data() end with a callback, after which the stream may be gone. */

static void fail(struct stream *stream, enum err err)
{
    stop_all(stream);
    buf_release(&stream->out);
    drop_file(stream);
    stream->_is_failed = true;
    stream->_handler->on_fail(stream, err);
}

static void end(struct stream *stream)
{
    stream->_is_ended = true;
    settle_later(stream);
    if (stream->_write_err != ERR_OK)
        fail(stream, stream->_write_err);
    else if (stream->_handler->on_end == NULL)
        fail(stream, ERR_CLOSED);
    else
        stream->_handler->on_end(stream);
}

static void read_failed(struct stream *stream, int os_error)
{
    if (os_error == EAGAIN || os_error == EINTR)
        return;
    fail(stream, stream->_write_err != ERR_OK ? stream->_write_err : err_of(os_error));
}

static void receive(struct stream *stream)
{
    size_t wanted = stream->in_max - stream->in.len;
    size_t room = buf_room(&stream->in);
    ssize_t got;

    settle_later(stream);
    if (room < wanted && room < READ_ROOM_MIN) {
        (void)buf_reserve(&stream->in, wanted < READ_ROOM_MIN ? wanted : READ_ROOM_MIN);
        room = buf_room(&stream->in);
    }
    if (room > wanted)
        room = wanted;
    if (stream->_tls == NULL)
        got = recv(stream->fd, stream->in.data + stream->in.len, room, 0);
    else
        got = tls_recv(stream->_tls, stream->in.data + stream->in.len, room);
    if (got > 0) {
        buf_commit(&stream->in, (size_t)got);
        stream->received += (uint64_t)got;
        stream->_handler->on_data(stream);
    } else if (got == 0) {
        end(stream);
    } else {
        read_failed(stream, errno);
    }
}

/* While nothing is read: is what has been handed over all there was? */
static void peer_closed(struct stream *stream)
{
    char byte;
    ssize_t got;

    settle_later(stream);
    if (stream->_is_peer_closed || stream->_is_ended)
        return;
    stream->_is_peer_closed = true;
    if (stream->_tls != NULL) { /* whether it said goodbye is known when that has been read */
        if (stream->_handler->on_peer_closed != NULL)
            stream->_handler->on_peer_closed(stream);
        return;
    }
    got = recv(stream->fd, &byte, 1, MSG_PEEK);
    if (got == 0)
        end(stream);
    else if (got < 0)
        read_failed(stream, errno);
    else if (stream->_handler->on_peer_closed != NULL)
        stream->_handler->on_peer_closed(stream);
}

static void socket_error(struct stream *stream)
{
    int os_error = 0;
    socklen_t len = sizeof os_error;

    if (stream->_write_err != ERR_OK)
        fail(stream, stream->_write_err);
    else if (getsockopt(stream->fd, SOL_SOCKET, SO_ERROR, &os_error, &len) != 0)
        fail(stream, ERR_IO);
    else
        fail(stream, err_of(os_error));
}

static void write_failed(struct stream *stream, int os_error)
{
    stream->_write_err = (uint8_t)err_of(os_error);
    stream->_is_blocked = false;
    buf_release(&stream->out);
    drop_file(stream);
}

/* The kernel took `taken` bytes; below 0: none. */
static void note_sent(struct stream *stream, ssize_t taken)
{
    if (taken > 0)
        stream->sent += (uint64_t)taken;
    if (taken > 0 || !stream->_is_blocked)
        stream->progress_ms = loop_now_ms(stream->_loop);
}

/* What came of a send: how much of `bytes` is left; nothing where the stream failed. */
static inline struct span left_of(struct stream *stream, struct span bytes, ssize_t taken)
{
    if (taken < 0 && errno != EAGAIN && errno != EINTR) {
        write_failed(stream, errno);
        return (struct span){NULL, 0};
    }
    note_sent(stream, taken);
    if (taken > 0)
        bytes = (struct span){bytes.ptr + taken, bytes.len - (size_t)taken};
    stream->_is_blocked = bytes.len > 0;
    return bytes;
}

/* Sends what was written; the kernel may take less. */
static void send_out(struct stream *stream)
{
    bool is_head = stream->_file.left > 0 && !stream->_file.is_copied; /* one packet with it */
    int flags = MSG_NOSIGNAL | (is_head ? MSG_MORE : 0);
    ssize_t taken = stream->_tls == NULL
                        ? send(stream->fd, stream->out.data, stream->out.len, flags)
                        : tls_send(stream->_tls, stream->out.data, stream->out.len);
    struct span left = left_of(stream, buf_span(&stream->out), taken);

    buf_consume(&stream->out, stream->out.len - left.len);
}

/* Files */

static void file_failed(struct stream *stream, enum err err)
{
    stream->_file.err = (uint8_t)err;
    stream->_file.left = 0;
}

/* Is there nothing more to be done for it? */
static bool is_file_over(const struct stream *stream)
{
    return stream->_file.is_on && stream->_file.left == 0 && stream->out.len == 0;
}

static void took_file(struct stream *stream, size_t size)
{
    stream->_file.at += size;
    stream->_file.left -= size;
}

static void copy_file(struct stream *stream)
{
    struct stream_file *file = &stream->_file;
    size_t size = file->left < FILE_COPY ? (size_t)file->left : FILE_COPY;
    ssize_t got = pread(file->fd, buf_reserve(&stream->out, size), size, (off_t)file->at);

    if (got > 0) {
        buf_commit(&stream->out, (size_t)got);
        took_file(stream, (size_t)got);
        send_out(stream);
    } else if (got == 0 || errno != EINTR) {
        file_failed(stream, got == 0 ? ERR_NOT_FOUND : ERR_IO);
    }
}

/* Where sendfile() fails: is it the file, the socket, or nothing at all? */
static void sendfile_failed(struct stream *stream, int os_error)
{
    switch (os_error) {
    case EAGAIN:
    case EINTR:
        note_sent(stream, -1);
        return;
    case EINVAL: /* the file's system has it not */
    case ENOSYS:
        stream->_file.is_copied = true;
        copy_file(stream);
        return;
    case EIO:
    case ENOMEM:
    case EOVERFLOW:
    case ESTALE:
        file_failed(stream, ERR_IO);
        return;
    default:
        write_failed(stream, os_error);
    }
}

/* A piece of it, behind an empty `out`. */
static void send_file(struct stream *stream)
{
    struct stream_file *file = &stream->_file;
    size_t size = file->left < STREAM_FILE_TURN ? (size_t)file->left : STREAM_FILE_TURN;
    off_t at = (off_t)file->at;
    ssize_t taken;

    if (file->is_copied) {
        copy_file(stream);
        return;
    }
    taken = sendfile(stream->fd, file->fd, &at, size);
    if (taken > 0) {
        took_file(stream, (size_t)taken);
        note_sent(stream, taken);
    } else if (taken == 0) {
        file_failed(stream, ERR_NOT_FOUND);
    } else {
        sendfile_failed(stream, errno);
    }
}

/* A turn's share of what is to be sent. */
static void send_some(struct stream *stream)
{
    if (stream->out.len > 0)
        send_out(stream);
    if (stream->_file.left == 0 || stream->out.len > 0 || stream->_write_err != ERR_OK)
        return;
    send_file(stream);
    stream->_is_blocked = stream->_file.left > 0 || stream->out.len > 0;
}

static void tell_file(struct stream *stream)
{
    enum err err = stream->_file.err;

    drop_file(stream);
    settle_later(stream); /* what has waited for its end */
    stream->_handler->on_file(stream, err);
}

static void on_io(struct io *io, uint32_t events);

/* Tells the kernel what to watch; nothing where it knows. */
static void watch(struct stream *stream)
{
    uint32_t events = 0;

    if (may_read(stream))
        events = IO_READ | IO_PEER_CLOSED;
    else if (!stream->_is_ended && !stream->_is_peer_closed)
        events = IO_PEER_CLOSED;
    if (stream->_is_blocked)
        events |= IO_WRITE;

    if (stream->_is_hung_up && (events & (IO_READ | IO_WRITE)) == 0)
        io_stop(&stream->_io);
    else if (!io_is_on(&stream->_io))
        io_start(stream->_loop, &stream->_io, stream->fd, events, on_io);
    else
        io_update(&stream->_io, events);
}

/* What the loop calls. */

static void on_again(struct ready *ready);

static void on_turn_end(struct hook *hook)
{
    struct stream *stream = CONTAINER_OF(hook, struct stream, _settle);

    CHECK(stream->fd >= 0);
    if (!stream->_is_blocked)
        send_some(stream);
    if (stream->_write_err != ERR_OK && (stream->_write_err != ERR_RESET || !may_read(stream))) {
        fail(stream, stream->_write_err);
        return;
    }
    if (stream->_is_shut && !stream->_is_fin_sent && !stream_is_sending(stream)) {
        stream->_is_fin_sent = true;
        (void)shutdown(stream->fd, SHUT_WR); /* fails where the peer is gone: reading will tell */
    }
    if (stream->in.len == 0)
        buf_release(&stream->in);
    if (stream->out.len == 0)
        buf_release(&stream->out);
    if (stream->_tls != NULL && may_read(stream) && tls_has_unread(stream->_tls))
        ready_start(stream->_loop, &stream->_again, on_again); /* the kernel will not say so */
    watch(stream);
    if (is_file_over(stream))
        tell_file(stream);
}

static void on_again(struct ready *ready)
{
    struct stream *stream = CONTAINER_OF(ready, struct stream, _again);

    CHECK(stream->fd >= 0);
    if (stream->_tls != NULL && may_read(stream) && tls_has_unread(stream->_tls)) {
        receive(stream);
        return;
    }
    if (stream->in.len == 0)
        return;
    settle_later(stream);
    stream->_handler->on_data(stream);
}

static void on_io(struct io *io, uint32_t events)
{
    struct stream *stream = CONTAINER_OF(io, struct stream, _io);

    CHECK(stream->fd >= 0);
    if ((events & IO_WRITE) != 0 && stream->_is_blocked) {
        send_some(stream);
        settle_later(stream);
        if (is_file_over(stream)) {
            tell_file(stream);
            return; /* what else there is comes with the next turn: the callee may have closed it */
        }
        if (stream->_write_err == ERR_OK && !stream->_is_blocked &&
            stream->_handler->on_drained != NULL) {
            stream->_handler->on_drained(stream);
            return; /* the same */
        }
    }
    if ((events & IO_READ) != 0 && may_read(stream)) {
        stream->_is_fin_near |= (events & IO_PEER_CLOSED) != 0;
        receive(stream);
    } else if ((events & IO_ERROR) != 0) {
        socket_error(stream);
    } else if ((events & (IO_PEER_CLOSED | IO_HANGUP)) != 0) {
        stream->_is_hung_up |= (events & IO_HANGUP) != 0;
        peer_closed(stream);
    }
}

/* Life and verbs */

void stream_start(struct loop *loop, struct stream *stream, int fd, struct buf_pool *pool,
                  uint32_t in_max, const struct stream_handler *handler)
{
    CHECK(fd >= 0);
    CHECK(in_max > 0);
    CHECK(handler->on_data != NULL);
    CHECK(handler->on_fail != NULL);
    *stream = (struct stream){._loop = loop, ._handler = handler, .fd = fd, .in_max = in_max};
    buf_init(&stream->in, pool);
    buf_init(&stream->out, pool);
    stream->progress_ms = loop_now_ms(loop);
    io_start(loop, &stream->_io, fd, IO_READ | IO_PEER_CLOSED, on_io);
}

void stream_set_tls(struct stream *stream, struct tls *tls)
{
    CHECK(stream->fd >= 0);
    CHECK(stream->received == 0);
    CHECK(stream->sent == 0);
    stream->_tls = tls;
    settle_later(stream); /* what came with the handshake's end */
}

bool stream_is_quiet(struct stream *stream)
{
    char byte;

    if (stream->_tls != NULL)
        return tls_is_quiet(stream->_tls);
    return recv(stream->fd, &byte, sizeof byte, MSG_PEEK | MSG_DONTWAIT) < 0 && errno == EAGAIN;
}

const char *stream_problem(const struct stream *stream)
{
    return stream->_tls != NULL ? tls_problem(stream->_tls) : NULL;
}

static bool is_writable(const struct stream *stream)
{
    CHECK(stream->fd >= 0);
    return !stream->_is_failed && stream->_write_err == ERR_OK;
}

void stream_write(struct stream *stream, struct span bytes)
{
    if (!is_writable(stream))
        return;
    CHECK(!stream->_is_shut);
    CHECK(!stream->_file.is_on);
    buf_append(&stream->out, bytes);
    settle_later(stream);
}

void stream_write_whole(struct stream *stream, struct span bytes)
{
    bool is_large = bytes.len >= STREAM_WHOLE_MIN && stream->_tls == NULL;
    ssize_t taken;

    if (is_large && is_writable(stream) && stream->out.len == 0 && !stream->_is_blocked) {
        CHECK(!stream->_is_shut);
        CHECK(!stream->_file.is_on);
        taken = send(stream->fd, bytes.ptr, bytes.len, MSG_NOSIGNAL);
        bytes = left_of(stream, bytes, taken);
        settle_later(stream);
    }
    stream_write(stream, bytes);
}

void stream_flush(struct stream *stream)
{
    CHECK(!stream->_file.is_on);
    if (is_writable(stream))
        settle_later(stream);
    else
        buf_release(&stream->out);
}

void stream_flush_now(struct stream *stream)
{
    if (!stream->_file.is_on)
        stream_flush(stream);
    if (stream->out.len > 0 && !stream->_is_blocked)
        send_out(stream);
}

void stream_send_file(struct stream *stream, int fd, uint64_t offset, uint64_t length)
{
    CHECK(length > 0);
    CHECK(!stream->_is_shut);
    CHECK(!stream->_file.is_on);
    CHECK(stream->_handler->on_file != NULL);
    if (!is_writable(stream)) {
        (void)close(fd);
        return;
    }
    stream->_file = (struct stream_file){.fd = fd,
                                         .is_on = true,
                                         .is_copied = stream->_tls != NULL,
                                         .err = ERR_OK,
                                         .at = offset,
                                         .left = length};
    settle_later(stream);
}

size_t stream_unsent(const struct stream *stream)
{
    return stream->out.len;
}

void stream_pause(struct stream *stream)
{
    CHECK(stream->fd >= 0);
    if (stream->_is_paused || stream->_is_failed)
        return;
    stream->_is_paused = true;
    ready_stop(&stream->_again);
    settle_later(stream);
}

void stream_resume(struct stream *stream)
{
    CHECK(stream->fd >= 0);
    if (stream->_is_failed)
        return;
    stream->_is_paused = false;
    if (stream->in.len > 0)
        ready_start(stream->_loop, &stream->_again, on_again);
    settle_later(stream);
}

void stream_shutdown(struct stream *stream)
{
    CHECK(stream->fd >= 0);
    if (stream->_is_shut || stream->_is_failed)
        return;
    stream->_is_shut = true;
    settle_later(stream);
}

bool stream_is_ended(const struct stream *stream)
{
    return stream->_is_ended || stream->_is_peer_closed || stream->_is_fin_near;
}

void stream_reset(struct stream *stream)
{
    const struct linger linger = {.l_onoff = 1};

    CHECK(stream->fd >= 0);
    (void)setsockopt(stream->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
}

void stream_close(struct stream *stream)
{
    if (stream->fd < 0)
        return;
    stop_all(stream);
    buf_release(&stream->in);
    buf_release(&stream->out);
    drop_file(stream);
    tls_destroy(stream->_tls);
    stream->_tls = NULL;
    (void)close(stream->fd);
    stream->fd = -1;
}
