/* net/stream.h - a connected socket with borrowed buffers: bytes in, bytes out.
 *
 * One recv a readiness (level-triggered, no second read to see EAGAIN); what is written during a
 * turn is sent once, at its end, but for large wholes, which go at once. While nothing is buffered
 * the stream holds no storage: an idle connection costs its struct. With TLS below, it is the same.
 *
 *   OPEN ──▶ ENDED (the peer sent FIN; writing goes on) ──▶ FAILED (reset, timeout, write error)
 *
 * Loop:   of one loop. Callbacks run from the loop only, never inside a call of this header. A
 *         callback may close the stream and free it.
 * Memory: embedded; owns the descriptor from stream_start() to stream_close().
 * Limits: `in_max` bytes are buffered before reading stops by itself; the writer watches
 *         stream_unsent().
 */
#ifndef WEFT_NET_STREAM_H
#define WEFT_NET_STREAM_H

#include "base/buf.h"
#include "base/error.h"
#include "loop/loop.h"

struct stream;
struct tls;

/* What the owner of a stream is told. One constant table serves all streams of a kind. */
struct stream_handler {
    /* Bytes came: all unread ones are in stream->in, to be taken with buf_consume(). Pointers into
     * it are good until reading goes on: who keeps some pauses, or copies them. Also runs, without
     * new bytes, after stream_resume(), where there are unread ones. */
    void (*on_data)(struct stream *stream);
    /* The peer will send no more (FIN). Bytes before it have been handed over. May be NULL: then
     * on_fail(ERR_CLOSED). */
    void (*on_end)(struct stream *stream);
    /* The socket is of no use any more: ERR_RESET, ERR_CLOSED, ERR_TIMED_OUT (the kernel gave up),
     * ERR_IO. Nothing else runs afterwards; stream_close() is still due. */
    void (*on_fail)(struct stream *stream, enum err err);
    /* All that was written has been handed to the kernel, after it once was not. May be NULL. */
    void (*on_drained)(struct stream *stream);
    /* FIN was noticed while reading is paused or `in` is full, and bytes that were not read yet lie
     * before it: the peer has said all, and may be gone. on_end comes when these have been read.
     * Where none are left, on_end runs instead. May be NULL. */
    void (*on_peer_closed)(struct stream *stream);
    /* The file of stream_send_file() is no longer needed: the kernel has taken all of it (OK), or
     * reading it failed (ERR_IO), or it ended before its end (ERR_NOT_FOUND); what was sent of it
     * is all that the peer gets. on_fail goes before it. May be NULL where no file is sent. */
    void (*on_file)(struct stream *stream, enum err err);
};

/* A file that is being sent. */
struct stream_file {
    int fd;         /* of it, while is_on */
    bool is_on;     /* from stream_send_file() until on_file */
    bool is_copied; /* through `out`: with TLS, or where the kernel has no sendfile for it */
    uint8_t err;    /* enum err: what reading came to */
    uint64_t at;    /* the next byte */
    uint64_t left;  /* bytes behind it that are still to be sent */
};

/* A connected socket. */
struct stream {
    struct loop *_loop;                    /* its loop */
    const struct stream_handler *_handler; /* what runs */
    struct tls *_tls;                      /* what it reads and writes through; NULL: the socket */
    struct io _io;                         /* of the socket */
    struct hook _settle;                   /* sends and tidies up at the end of the turn */
    struct ready _again;                   /* on_data without an event */
    struct buf in;                         /* received, not yet consumed */
    struct buf out;                        /* written, not yet sent */
    struct stream_file _file;              /* to be sent behind `out` */
    int fd;                                /* -1: closed */
    uint32_t in_max;                       /* reading stops while in.len is at or above it */
    uint64_t received;                     /* bytes in all */
    uint64_t sent;                         /* bytes in all */
    uint64_t progress_ms; /* loop time when the kernel last took bytes or began to refuse them; for
                             write-stall limits, while stream_unsent() is not 0 */
    uint8_t _write_err; /* enum err: why writing failed; told when there is nothing more to read */
    bool _is_paused;    /* stream_pause() */
    bool _is_blocked;   /* the kernel took less than all: waits for IO_WRITE */
    bool _is_ended;     /* FIN was read */
    bool _is_peer_closed; /* FIN was noticed while nothing was read */
    bool _is_fin_near;    /* FIN was noticed, and bytes before it are being read */
    bool _is_hung_up;     /* both directions are closed: the kernel says so again and again */
    bool _is_shut;        /* FIN is to follow what is unsent */
    bool _is_fin_sent;    /* and did */
    bool _is_failed;      /* on_fail ran */
};

/* Takes over `fd`, connected (or still connecting: then writing waits for it), and reads. `pool`
 * lends the buffers. `handler` is not copied; on_data and on_fail are not NULL. */
void stream_start(struct loop *loop, struct stream *stream, int fd, struct buf_pool *pool,
                  uint32_t in_max, const struct stream_handler *handler);

/* From now on reads and writes through `tls`, whose handshake is done, and which is the stream's
 * from now on. Nothing was read or written before. */
void stream_set_tls(struct stream *stream, struct tls *tls);

/* Is there nothing to be read, as far as the kernel knows: neither bytes nor an end nor an
 * error? */
bool stream_is_quiet(struct stream *stream);

/* What is wrong where on_fail came, a constant for people; NULL: nothing is known but the error. */
const char *stream_problem(const struct stream *stream);

/* Copies `bytes` behind what is unsent; goes out at the end of the turn. Ignored on a failed
 * stream; not after stream_shutdown() (checked). */
void stream_write(struct stream *stream, struct span bytes);

/* The same, for all that is to be written in a while: where it is STREAM_WHOLE_MIN bytes or more
 * and nothing is unsent, the kernel is offered it at once, and what it takes is not copied. Not for
 * pieces of more: who sees that nothing is unsent after each would write on and on. */
void stream_write_whole(struct stream *stream, struct span bytes);

enum { STREAM_WHOLE_MIN = 16384 };

/* Something was written to stream->out directly: sends at the end of the turn. */
void stream_flush(struct stream *stream);

/* Sends what can be sent, now. */
void stream_flush_now(struct stream *stream);

/* Sends `length` bytes (not 0) of the file `fd` from `offset` on behind what is unsent, without
 * copying them where that can be; takes `fd` over. Nothing may be written before on_file (checked).
 * At most STREAM_FILE_TURN bytes a turn, and as fast as the peer takes them. Reading blocks where
 * the kernel does not have the bytes in memory. SIGPIPE must be ignored. On a failed stream it only
 * closes `fd`. */
void stream_send_file(struct stream *stream, int fd, uint64_t offset, uint64_t length);

enum { STREAM_FILE_TURN = 262144 };

/* Bytes that were written and that the kernel has not taken yet. */
size_t stream_unsent(const struct stream *stream);

/* Is there anything that the kernel has not taken yet, of a file too? */
static inline bool stream_is_sending(const struct stream *stream)
{
    return stream->out.len > 0 || stream->_file.is_on;
}

/* No on_data until stream_resume(): backpressure down to the peer's TCP window. A FIN or reset is
 * still noticed. Twice is fine. */
void stream_pause(struct stream *stream);

/* Reads again. Also for who consumes from stream->in outside on_data, where it may have been
 * full. */
void stream_resume(struct stream *stream);

/* FIN behind what is unsent. Twice is fine. */
void stream_shutdown(struct stream *stream);

/* Has the peer's FIN been seen? Unread bytes may lie before it: where it came together with bytes,
 * on_data finds it seen already. */
bool stream_is_ended(const struct stream *stream);

/* Closes at once, unsent bytes and all; nothing runs afterwards. Closed or zeroed with fd -1 is
 * fine. */
void stream_close(struct stream *stream);

/* Has the kernel taken less than it was given, so that on_drained will tell when it took all? */
static inline bool stream_is_blocked(const struct stream *stream)
{
    return stream->_is_blocked;
}

/* What stream_close() does then looks like a failure to the peer: a reset, not an end. */
void stream_reset(struct stream *stream);

#endif
