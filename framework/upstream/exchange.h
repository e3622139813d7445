/* upstream/exchange.h - one request and its answer on a connection.
 *
 * The answer is handed on as it comes: head, pieces of the body, end. Interim answers are skipped.
 * The rest of a request may follow in pieces, while the answer comes too. Afterwards the exchange
 * says whether the connection may carry another one.
 *
 * Loop:   of one loop; a handler runs from the loop only, never inside exchange_start().
 * Memory: embedded in the connection that it is on; what the handler is shown is good until it
 *         returns.
 * Limits: head_bytes_max, write_timeout_ms, first_byte_timeout_ms and between_bytes_timeout_ms of
 *         the options; 8 interim answers; EXCHANGE_FIELDS_MAX fields.
 */
#ifndef WEFT_UPSTREAM_EXCHANGE_H
#define WEFT_UPSTREAM_EXCHANGE_H

#include "base/error.h"
#include "base/span.h"
#include "http/parser.h"
#include "loop/loop.h"
#include "loop/timer.h"
#include "upstream/failure.h"
#include "upstream/options.h"
#include <stdbool.h>
#include <stdint.h>

struct exchange;
struct stream;

/* Fields of an answer's head; more are ERR_TOO_BIG. */
enum { EXCHANGE_FIELDS_MAX = 100 };

/* Who takes the answer. What is not ERR_OK from the first two ends the exchange with that error;
 * exchange->problem may be set to a constant text that says why. */
struct exchange_handler {
    /* The head of the answer itself. */
    enum err (*on_head)(struct exchange *exchange, const struct http_head *head);
    /* Some of its body; never empty. */
    enum err (*on_body)(struct exchange *exchange, struct span bytes);
    /* It is over, and the connection may be closed or lent on. ERR_OK: the answer is complete. Else
     * exchange->failure and ->problem say more: ERR_RESET, ERR_CLOSED (before or within the
     * answer), ERR_IO, ERR_TIMED_OUT, ERR_PROTOCOL, ERR_TOO_BIG, or what the handler said. */
    void (*on_done)(struct exchange *exchange, enum err err);
    /* All that was written of the request has left, after it once could not. May be NULL. */
    void (*on_drained)(struct exchange *exchange);
};

/* What the exchanges of an upstream share; the caller's, and outlives them. */
struct exchange_shared {
    struct loop *loop;                      /* their loop */
    const struct upstream_options *options; /* timeouts */
    struct http_head *head;                 /* in which answers are parsed */
    struct http_parser_limits limits;       /* of answers */
};

/* One after the other on a connection. Embed it; zeroed it is none. */
struct exchange {
    void *user;                    /* the handler's own */
    enum upstream_failure failure; /* of a failure: which one */
    const char *problem;           /* of a failure: a constant text for people */
    uint32_t keep_ms;              /* how long the peer keeps the connection; UINT32_MAX:
                                               it did not say */
    bool is_reusable;              /* done: another exchange may follow on the connection */
    uint64_t body_bytes_max;       /* that chunks may announce; the options', until it is set
                                              anew behind exchange_start() */
    struct span trailer;           /* in on_done(ERR_OK), and only there: the section behind
                                              the last chunk, as http/trailer.h takes it; absent */
    const struct exchange_shared *_shared;   /* limits */
    struct stream *_stream;                  /* of the connection */
    const struct exchange_handler *_handler; /* who takes the answer */
    struct http_parser _parser;              /* of the connection's answers */
    struct timer _timer;                     /* for the first byte, or the next */
    uint64_t _since_ms;                      /* loop time from which a first byte is waited for */
    uint64_t _request_bytes;                 /* of the request under way */
    uint64_t _sent_before;                   /* bytes of earlier exchanges */
    uint64_t _received_before;               /* the same */
    uint32_t _interim;                       /* interim answers so far */
    bool _is_persistent;                     /* says the answer's head */
    bool _is_open;                           /* more of the request follows */
    bool _is_paused;                         /* nobody takes the answer now */
    int _state;                              /* see exchange.c */
};

/* Makes `exchange` for the exchanges on `stream`, which was just connected. */
void exchange_init(struct exchange *exchange, const struct exchange_shared *shared,
                   struct stream *stream);

/* Sends `request`, which is copied, and takes the answer to it. `is_head`: it is a HEAD's. The one
 * before must be over. */
void exchange_start(struct exchange *exchange, struct span request, bool is_head,
                    const struct exchange_handler *handler, void *user);

/* More of the request just started follows: nobody is to be waited for while that is missing. */
void exchange_open(struct exchange *exchange);

/* Some more of an open request; copied. The exchange is under way. */
void exchange_write(struct exchange *exchange, struct span bytes);

/* That was all of it. */
void exchange_close(struct exchange *exchange);

/* Hands on no more of the answer than was received, until it is resumed; the peer is held up by its
 * TCP window. Either twice is fine. */
void exchange_pause(struct exchange *exchange);
void exchange_resume(struct exchange *exchange);

/* Bytes of the request that wait for the kernel. */
size_t exchange_unsent(const struct exchange *exchange);

/* Loop time when the kernel last took some of it. */
uint64_t exchange_progress_ms(const struct exchange *exchange);

/* Sends what can be sent, now. */
void exchange_flush(struct exchange *exchange);

/* Forgets what is under way, silently; its connection is of no use any more then. Zeroed is
 * fine. */
void exchange_stop(struct exchange *exchange);

/* Bytes of the request that the kernel took. */
uint64_t exchange_written(const struct exchange *exchange);

/* Bytes that came since it was started. */
uint64_t exchange_received(const struct exchange *exchange);

/* ---- for who owns the stream: it hands on what it is told while an exchange is under way ---- */

/* Bytes came. */
void exchange_on_data(struct exchange *exchange);

/* The peer will send no more. */
void exchange_on_end(struct exchange *exchange);

/* All that was written has left. */
void exchange_on_drained(struct exchange *exchange);

/* The connection broke. */
void exchange_on_fail(struct exchange *exchange, enum err err);

#endif
