/* plugin/inside.h - what the files of the ABI share; they alone include weft.h.
 *
 * Every entry begins with one of abi_scope(), abi_op(), abi_request() and abi_init_of(): they find
 * the loop's thread, count the call and check the handle. What is wrong is told once in the log,
 * with plugin, route and request, and the entry answers WEFT_E_STATE or an empty value.
 */
#ifndef WEFT_PLUGIN_INSIDE_H
#define WEFT_PLUGIN_INSIDE_H

#include "base/buf.h"
#include "base/log.h"
#include "http/request.h"
#include "observe/blame.h"
#include "plugin/abi.h"
#include "task/op.h"
#include "task/scope.h"
#include "weft.h"

struct pg_call;

struct pg_value;

/* What the entries of one worker share. */
struct abi {
    struct plugin_services services; /* the worker's */
    struct slots *hosts;             /* handle -> struct instance, during its init() */
    struct slots *pools;             /* handle -> struct pg_pool */
    struct slots *statements;        /* handle -> struct abi_statement */
    struct slots *upstreams;         /* handle -> struct upstream */
    struct instance *running;        /* whose init() or fini() runs; NULL */
    const struct abi_filter *seeing; /* a filter that looks at an answer, or changes it; NULL */
    uint64_t entries;                /* calls by plugins */
    struct buf json;                 /* for results on their way out; empty between calls */
    struct arena_pool arenas;        /* of stray */
    struct arena stray;              /* what was allocated in a stale ctx */
    unsigned char warned[BLAME_NAMES_MAX / 8]; /* a bit a route: it called an upstream with a
                                                * transaction open, and that was told */
};

/* A route, as data of its http_route. */
struct abi_route {
    struct instance *instance; /* whose */
    weft_handler *fn;          /* the plugin's */
    void *self;                /* for fn; NULL: what init() made */
    const char *text;          /* "GET /books/:id", with the mount */
};

/* What we keep of a request: its `user`. */
struct abi_service {
    const struct abi_filter *filter; /* that is asked now; NULL: none */
    uint64_t failed;                 /* the op whose failure the plugin was told last; 0: none */
};

/* A filter, as data of its http_filter. */
struct abi_filter {
    struct instance *instance; /* whose */
    weft_handler *before;      /* the plugin's; NULL */
    weft_handler *after;       /* the same */
    void *self;                /* for both; NULL: what init() made */
    const char *text;          /* "filter /admin", with the mount */
    uint32_t blame_index;      /* in the blame page */
};

/* A declared statement. */
struct abi_statement {
    struct pg_pool *pool;                 /* for which */
    const struct pg_statement *statement; /* the pool's */
};

/* The tables. */
extern const weft_core_api abi_core;
extern const weft_http_api abi_http;
extern const weft_pg_api abi_pg;
extern const weft_call_api abi_call;

/* The entries of `core` that abi_init.c has; what they do stands in weft.h. */
weft_status abi_route(weft_host *host, const char *method, const char *pattern, weft_handler *fn,
                      void *self, const weft_route_options *given);
weft_status abi_setting(weft_host *host, const char *key, const char *fallback, weft_str *value);
weft_status abi_setting_int(weft_host *host, const char *key, int64_t min, int64_t max,
                            int64_t fallback, int64_t *value);
weft_status abi_setting_bool(weft_host *host, const char *key, uint32_t fallback, uint32_t *value);

weft_str abi_instance(weft_host *host);
weft_status abi_shared(weft_host *host, const char *name, size_t bytes, void **memory);

/* The entries of `http` that abi_filter.c has. */
weft_status abi_add_filter(weft_host *host, const weft_filter_options *given);
uint32_t abi_reply_code(weft_ctx *ctx);
weft_str abi_reply_header(weft_ctx *ctx, const char *name);
weft_status abi_remove_header(weft_ctx *ctx, const char *name);
int64_t abi_reply_length(weft_ctx *ctx);
weft_status abi_transform(weft_ctx *ctx, weft_transform_fn *fn, void *data);

/* The entries of `core` that abi_post.c has. */
weft_status abi_inbox(weft_host *host, weft_inbox **found);
weft_status abi_post(weft_inbox *inbox, weft_handler *fn, void *data);

/* The background scope is there: what was posted runs from the next turn on. */
void abi_inbox_start(struct instance *instance);

/* ---- entering; `call` names the entry, "await" ---- */

/* This thread's; NULL: not the loop's. */
struct abi *abi_here(void);

/* The same, counted; NULL: that was told. */
struct abi *abi_enter(const char *call);

/* The living scope; NULL: told. */
struct scope *abi_scope(weft_ctx *ctx, const char *call);

/* The living op; NULL: told. */
struct op *abi_op(weft_op *op, const char *call);

/* The request that the ctx serves; NULL: told. */
struct http_request *abi_request(weft_ctx *ctx, const char *call);

/* The instance whose init() runs; NULL: told. */
struct instance *abi_init_of(weft_host *host, const char *call);

/* Tells of a call that was wrong, and counts it: "weft_await(): `what`". */
void abi_misuse(const char *call, const char *what);

/* ---- who it is about ---- */

/* Plugin, route and request as fields of a log line. */
struct abi_who {
    struct log_field fields[3]; /* plugin, route, request: absent where they are not known */
    char request[24];           /* the last one's text: as in the access log */
};

/* Is it a plugin's background scope, or below one? Its root's owner is the instance then. */
bool abi_is_background(const struct scope *scope);

/* What a helper thread runs. */
struct abi_work {
    const char *plugin;   /* whose code; NULL: not known */
    uint32_t blame_index; /* for the page of blame */
    uint64_t request;     /* for which it was offloaded; 0: none */
};

/* A helper thread runs `work`, which stays put, from now on. */
void abi_thread_enter(const struct abi_work *work);

/* It has returned. */
void abi_thread_leave(void);

/* The instance whose code lies where `descriptor` does. */
void abi_know(const struct instance *instance, const void *descriptor);

/* The name of the instance whose work this thread runs, or whose code has called us; absent: not
 * known. For threads that are not the loop's; takes a look at the stack. */
struct span abi_caller(void);

/* The route that serves the scope's request; NULL: none of ours. */
const struct abi_route *abi_route_of(const struct scope *scope);

/* Whose scope it is, or, for NULL, whose code runs; NULL: not known. */
struct instance *abi_instance_of(const struct abi *abi, const struct scope *scope);

/* Where repeats of a line are counted: another place for other texts, more or less, since one place
 * for all that goes through one of our lines would hold back what is no repeat. */
struct log_site *abi_log_site(struct span what, struct span of);

/* The same as fields. `who` must stay put until they were written. */
void abi_who(const struct abi *abi, const struct scope *scope, struct abi_who *who);

/* ---- values ---- */

/* The scope's handle, as the plugin sees it; NULL for NULL. */
weft_ctx *abi_ctx(const struct scope *scope);

/* The op's. */
weft_op *abi_handle(const struct op *op);

/* The number that such a pointer is. */
uint64_t abi_number(const void *handle);

/* The same bytes. */
weft_str abi_str(struct span span);

/* The same bytes; none where they are absent. */
struct span abi_span(weft_str s);

/* Copies `from`, an options struct that begins with its size, to the `known` bytes at `to`. False:
 * it is longer, and what we do not know of it is not zero, or it has no size. NULL is all zero. */
bool abi_take_options(void *to, size_t known, const void *from);

/* `count` parameters as the room pg has them, at most PG_PARAMS_MAX. ERR_OK, or what the op fails
 * with, and why. */
enum err abi_take_values(const weft_value *from, uint32_t count, struct pg_value *to,
                         const char **why);

/* Fills in the pool or transaction of a call. False: `db` is neither, and that was told. */
bool abi_database(weft_pg *db, struct pg_call *call, const char *entry);

/* The entries of `pg` that abi_copy.c has. */
weft_op *abi_copy_out(weft_ctx *ctx, weft_pg *db, const char *sql);
weft_op *abi_copy_read(weft_op *handle);
weft_op *abi_copy_in(weft_ctx *ctx, weft_pg *db, const char *sql);
weft_op *abi_copy_write(weft_op *handle, weft_str bytes);
weft_op *abi_copy_end(weft_op *handle);
weft_op *abi_listen(weft_ctx *ctx, weft_pg *db, const char *channel);
weft_op *abi_listen_next(weft_op *handle);

/* The entries of `pg` that abi_values.c has. */
int64_t abi_col_time(weft_op *handle, uint32_t row, uint32_t column);
weft_str abi_col_bytes(weft_ctx *ctx, weft_op *handle, uint32_t row, uint32_t column);
const int64_t *abi_col_ints(weft_ctx *ctx, weft_op *handle, uint32_t row, uint32_t column,
                            uint32_t *count);
const weft_str *abi_col_texts(weft_ctx *ctx, weft_op *handle, uint32_t row, uint32_t column,
                              uint32_t *count);

/* ---- statuses ---- */

/* The ABI's status for `err`. */
weft_status abi_status(enum err err);

/* The other way round; ERR_INVALID for a status that nobody knows. */
enum err abi_err(weft_status status);

/* The HTTP status that a client gets for it. */
uint32_t abi_code(weft_status status);

/* In words; constant. */
const char *abi_status_text(weft_status status);

/* ---- running (abi_run.c) ---- */

/* Makes the request a plugin's to serve, once. */
struct abi_service *abi_take_request(struct http_request *request);

/* Answers a request whose handler or filter has failed with `status`. */
void abi_answer_failure(struct http_request *request, weft_status status);

/* An http_handler_fn: `data` is a struct abi_route. */
void abi_serve(struct http_request *request, void *data);

/* What a handler or callback in `scope` has returned: a failure becomes the reply, unless there is
 * one, and a line in the log. */
void abi_take_status(struct scope *scope, weft_status status);

/* The plugin is told that `op` has failed: the log says why if that becomes the reply. `scope` is
 * where it is told. */
void abi_note_failure(struct scope *scope, const struct op *op);

#endif
