/* weft_tables.h - the binary contract of the plugin ABI: the tables of functions that the host
 * hands to a plugin, and the descriptor that the plugin exports. Included by weft.h; who writes a
 * plugin has no need to read it.
 *
 * Each table begins with its size and is append-only: an entry never moves, goes or changes. No
 * enum, bool, long, bit-field or varargs crosses. What an entry does stands in weft.h at the
 * function that is named beside it.
 */
#ifndef WEFT_TABLES_H
#define WEFT_TABLES_H

#ifndef WEFT_H
#error "include weft.h"
#endif

#ifdef __cplusplus
extern "C" {
#endif

typedef struct weft_core_api {
    uint32_t size;     /* of the host's table */
    uint32_t reserved; /* 0 */
    /* [init] */
    weft_status (*route)(weft_host *, const char *method, const char *pattern, weft_handler *,
                         void *self, const weft_route_options *); /* weft_route_with() */
    weft_status (*setting)(weft_host *, const char *key, const char *fallback,
                           weft_str *); /* weft_setting() */
    weft_status (*setting_int)(weft_host *, const char *key, int64_t min, int64_t max,
                               int64_t fallback, int64_t *); /* weft_setting_int() */
    weft_status (*setting_bool)(weft_host *, const char *key, uint32_t fallback,
                                uint32_t *); /* weft_setting_bool() */
    /* [any] */
    void (*log)(weft_ctx *, uint32_t level, weft_str); /* weft_log() */
    uint32_t (*log_level)(void);                       /* weft_log_level() */
    const char *(*status_text)(weft_status);           /* weft_status_text() */
    /* [loop] a scope */
    void *(*alloc)(weft_ctx *, size_t);                          /* weft_alloc() */
    weft_status (*defer)(weft_ctx *, weft_cleanup_fn *, void *); /* weft_defer() */
    weft_ctx *(*child)(weft_ctx *, uint32_t ms, uint32_t flags); /* weft_child() */
    weft_status (*end)(weft_ctx *child);                         /* weft_end() */
    weft_status (*shield)(weft_ctx *, uint32_t ms);              /* weft_shield() */
    void (*cancel)(weft_ctx *);                                  /* weft_cancel() */
    uint32_t (*why)(weft_ctx *);                                 /* weft_why() */
    int64_t (*budget_ms)(weft_ctx *);                            /* weft_budget_ms() */
    /* [loop] ops */
    weft_status (*then)(weft_op *, weft_then_fn *, void *); /* weft_then() */
    weft_status (*await)(weft_op *);                        /* weft_await() */
    weft_status (*op_status)(weft_op *);                    /* weft_op_status() */
    weft_str (*op_error)(weft_op *);                        /* weft_op_error() */
    void (*op_cancel)(weft_op *);                           /* weft_op_cancel() */
    weft_status (*op_release)(weft_op *);                   /* weft_op_release() */
    weft_op *(*group)(weft_ctx *, uint32_t kind, uint32_t count,
                      weft_op *const *);        /* weft_all(), weft_any(), weft_race() */
    int32_t (*winner)(weft_op *);               /* weft_winner() */
    weft_op *(*sleep)(weft_ctx *, uint32_t ms); /* weft_sleep() */
    weft_op *(*spawn)(weft_ctx *, weft_handler *, void *self); /* weft_spawn() */
    weft_op *(*hedge)(weft_ctx *, weft_op *first, uint32_t ms, weft_start_fn *,
                      void *data);                               /* weft_hedge() */
    weft_op *(*offload)(weft_ctx *, weft_work_fn *, void *data); /* weft_offload() */
    weft_status (*open_inbox)(weft_host *, weft_inbox **);       /* [init] weft_open_inbox() */
    weft_status (*post)(weft_inbox *, weft_handler *, void *);   /* [any] weft_post() */
    weft_str (*piece)(weft_op *);                                /* weft_piece() */
    weft_status (*shared)(weft_host *, const char *name, size_t bytes,
                          void **memory); /* [init] weft_shared() */
    weft_str (*instance)(weft_host *);    /* [init] weft_instance() */
} weft_core_api;

typedef struct weft_http_api {
    uint32_t size;     /* of the host's table */
    uint32_t reserved; /* 0 */
    /* [loop] the request */
    weft_str (*method)(weft_ctx *);                   /* weft_method() */
    weft_str (*path)(weft_ctx *);                     /* weft_path() */
    weft_str (*param)(weft_ctx *, const char *name);  /* weft_param() */
    weft_str (*query)(weft_ctx *, const char *name);  /* weft_query() */
    weft_str (*header)(weft_ctx *, const char *name); /* weft_header() */
    weft_str (*peer)(weft_ctx *);                     /* weft_peer() */
    weft_str (*mount)(weft_ctx *);                    /* weft_mount() */
    weft_str (*body)(weft_ctx *);                     /* weft_body() */
    /* [loop] the reply */
    weft_status (*explain)(weft_ctx *, weft_str);                      /* weft_explain() */
    weft_status (*set_header)(weft_ctx *, const char *name, weft_str); /* weft_set_header() */
    weft_status (*reply)(weft_ctx *, uint32_t code, const char *type,
                         weft_str body);                                /* weft_reply() */
    weft_status (*problem)(weft_ctx *, uint32_t code, weft_str detail); /* weft_problem() */
    /* [loop] streams */
    weft_op *(*body_read)(weft_ctx *);                   /* weft_body_read() */
    weft_str (*trailer)(weft_ctx *, const char *name);   /* weft_trailer() */
    weft_str (*query_string)(weft_ctx *);                /* weft_query_string() */
    weft_field (*header_at)(weft_ctx *, uint32_t index); /* weft_header_at() */
    weft_status (*reply_begin)(weft_ctx *, uint32_t code, const char *type,
                               const weft_reply_options *);          /* weft_reply_begin_with() */
    weft_op *(*write)(weft_ctx *, uint32_t count, const weft_str *); /* weft_write_all() */
    weft_status (*set_trailer)(weft_ctx *, const char *name, weft_str); /* weft_set_trailer() */
    weft_status (*reply_end)(weft_ctx *);                               /* weft_reply_end() */
    /* filters */
    weft_status (*filter)(weft_host *, const weft_filter_options *);   /* [init] weft_filter() */
    uint32_t (*reply_code)(weft_ctx *);                                /* weft_reply_code() */
    weft_str (*reply_header)(weft_ctx *, const char *name);            /* weft_reply_header() */
    weft_status (*remove_header)(weft_ctx *, const char *name);        /* weft_remove_header() */
    int64_t (*reply_length)(weft_ctx *);                               /* weft_reply_length() */
    weft_status (*transform)(weft_ctx *, weft_transform_fn *, void *); /* weft_transform() */
    /* [loop] files */
    weft_status (*reply_file)(weft_ctx *, uint32_t code, const char *type,
                              const weft_file *);         /* weft_reply_file() */
    weft_str (*request_id)(weft_ctx *);                   /* weft_request_id() */
    weft_field (*trailer_at)(weft_ctx *, uint32_t index); /* weft_trailer_at() */
} weft_http_api;

typedef struct weft_pg_api {
    uint32_t size;     /* of the host's table */
    uint32_t reserved; /* 0 */
    /* [init] */
    weft_status (*pool)(weft_host *, const char *name, weft_pg **); /* weft_find_pool() */
    weft_status (*declare)(weft_host *, weft_pg *, const char *name, const char *sql,
                           uint32_t flags, weft_stmt **); /* weft_declare() */
    /* [loop] running */
    weft_op *(*run)(weft_ctx *, weft_pg *, weft_stmt *, uint32_t count,
                    const weft_value *); /* weft_run() */
    weft_op *(*run_sql)(weft_ctx *, weft_pg *, const char *sql, uint32_t flags, uint32_t count,
                        const weft_value *);                  /* weft_run_sql() */
    weft_op *(*begin)(weft_ctx *, weft_pg *, uint32_t flags); /* weft_begin() */
    weft_pg *(*tx)(weft_op *begin);                           /* weft_tx() */
    weft_op *(*commit)(weft_pg *tx);                          /* weft_commit() */
    weft_op *(*rollback)(weft_pg *tx);                        /* weft_rollback() */
    /* [loop] the result */
    uint32_t (*rows)(weft_op *);                                   /* weft_rows() */
    uint32_t (*columns)(weft_op *);                                /* weft_columns() */
    uint64_t (*affected)(weft_op *);                               /* weft_affected() */
    int32_t (*column)(weft_op *, const char *name);                /* weft_column() */
    weft_str (*column_name)(weft_op *, uint32_t column);           /* weft_column_name() */
    weft_str (*text)(weft_op *, uint32_t row, uint32_t column);    /* weft_col_text() */
    int64_t (*i64)(weft_op *, uint32_t row, uint32_t column);      /* weft_col_int() */
    double (*f64)(weft_op *, uint32_t row, uint32_t column);       /* weft_col_double() */
    uint32_t (*boolean)(weft_op *, uint32_t row, uint32_t column); /* weft_col_bool() */
    uint32_t (*is_null)(weft_op *, uint32_t row, uint32_t column); /* weft_col_is_null() */
    weft_str (*json)(weft_ctx *, weft_op *, uint32_t flags);       /* weft_rows_json() */
    weft_status (*reply)(weft_ctx *, uint32_t code, weft_op *,
                         uint32_t flags); /* weft_reply_rows() */
    weft_str (*sqlstate)(weft_op *);      /* weft_sqlstate() */
    uint32_t (*maybe_applied)(weft_op *); /* weft_maybe_applied() */
    /* [loop] streams */
    weft_op *(*stream)(weft_ctx *, weft_pg *, weft_stmt *, uint32_t count,
                       const weft_value *); /* weft_stream() */
    weft_op *(*stream_sql)(weft_ctx *, weft_pg *, const char *sql, uint32_t flags, uint32_t count,
                           const weft_value *);                     /* weft_stream_sql() */
    weft_op *(*stream_next)(weft_op *);                             /* weft_stream_next() */
    weft_str (*stream_json)(weft_op *);                             /* weft_stream_json() */
    weft_op *(*back_off)(weft_ctx *, weft_pg *, uint32_t failures); /* weft_transact() */
    /* [loop] values */
    int64_t (*col_time)(weft_op *, uint32_t row, uint32_t column); /* weft_col_time() */
    weft_str (*col_bytes)(weft_ctx *, weft_op *, uint32_t row,
                          uint32_t column); /* weft_col_bytes() */
    const int64_t *(*col_ints)(weft_ctx *, weft_op *, uint32_t row, uint32_t column,
                               uint32_t *count); /* weft_col_ints() */
    const weft_str *(*col_texts)(weft_ctx *, weft_op *, uint32_t row, uint32_t column,
                                 uint32_t *count); /* weft_col_texts() */
    /* [loop] COPY */
    weft_op *(*copy_out)(weft_ctx *, weft_pg *, const char *sql); /* weft_copy_out() */
    weft_op *(*copy_read)(weft_op *);                             /* weft_copy_read() */
    weft_op *(*copy_in)(weft_ctx *, weft_pg *, const char *sql);  /* weft_copy_in() */
    weft_op *(*copy_write)(weft_op *, weft_str);                  /* weft_copy_write() */
    weft_op *(*copy_end)(weft_op *);                              /* weft_copy_end() */
    /* [loop] LISTEN */
    weft_op *(*listen)(weft_ctx *, weft_pg *, const char *channel); /* weft_listen() */
    weft_op *(*listen_next)(weft_op *);                             /* weft_listen_next() */
} weft_pg_api;

typedef struct weft_call_api {
    uint32_t size;     /* of the host's table */
    uint32_t reserved; /* 0 */
    /* [init] */
    weft_status (*upstream)(weft_host *, const char *name,
                            weft_upstream **); /* weft_find_upstream() */
    /* [loop] */
    weft_op *(*start)(weft_ctx *, weft_upstream *, const weft_call *); /* weft_call_start() */
    uint32_t (*code)(weft_op *);                                       /* weft_call_code() */
    weft_str (*header)(weft_op *, const char *name);                   /* weft_call_header() */
    weft_str (*body)(weft_op *);                                       /* weft_call_body() */
    /* [loop] streams */
    weft_op *(*stream)(weft_ctx *, weft_upstream *, const weft_call *); /* weft_call_stream() */
    weft_op *(*read)(weft_op *stream);                                  /* weft_call_read() */
    weft_op *(*write)(weft_op *stream, weft_str);                       /* weft_call_write() */
    weft_status (*write_end)(weft_op *stream, uint32_t count,
                             const weft_field *trailers);      /* weft_call_write_end_with() */
    uint32_t (*wants)(weft_op *stream);                        /* weft_call_wants() */
    weft_str (*trailer)(weft_op *stream, const char *name);    /* weft_call_trailer() */
    weft_field (*header_at)(weft_op *, uint32_t index);        /* weft_call_header_at() */
    int64_t (*time_us)(weft_op *, uint32_t which);             /* weft_call_time_us() */
    weft_str (*address)(weft_op *);                            /* weft_call_address() */
    uint32_t (*is_reused)(weft_op *);                          /* weft_call_is_reused() */
    weft_field (*trailer_at)(weft_op *stream, uint32_t index); /* weft_call_trailer_at() */
} weft_call_api;

/* The root: what the host stores in the plugin before init(). */
typedef struct weft_api {
    uint32_t size;             /* of the host's table */
    uint32_t minor;            /* the host's, of this major */
    const weft_core_api *core; /* settings, routes, logs, scopes, ops */
    const weft_http_api *http; /* requests and replies */
    const weft_pg_api *pg;     /* databases */
    const weft_call_api *call; /* upstreams */
} weft_api;

/* ---- the descriptor: the one symbol that a plugin exports ------------------------------------ */

typedef struct weft_plugin {
    uint32_t magic;                                         /* WEFT_MAGIC */
    uint32_t size;                                          /* sizeof(weft_plugin) */
    uint16_t abi_major;                                     /* WEFT_ABI_MAJOR */
    uint16_t abi_minor;                                     /* WEFT_ABI_TARGET */
    uint32_t flags;                                         /* 0 */
    const char *name;                                       /* of the plugin; not of the instance */
    const char *version;                                    /* the plugin's own */
    const weft_api **api;                                   /* where the host stores the tables */
    weft_status (*init)(weft_host *host, void **self);      /* [loop], all three: see weft.h */
    weft_status (*start)(weft_ctx *background, void *self); /* or NULL */
    void (*fini)(void *self);                               /* or NULL */
} weft_plugin;

/* "WEFT": the first bytes of a descriptor. */
#define WEFT_MAGIC 0x54464557u

/* The tables, in the plugin; set before init(). Calls go through the functions below. */
extern const weft_api *weft__api __attribute__((visibility("hidden")));
extern const weft_plugin weft_plugin_1 __attribute__((visibility("default")));

#define WEFT__TEXT_(x) #x
#define WEFT__TEXT(x)  WEFT__TEXT_(x)

/* Once in each plugin, behind a semicolon. Beside the descriptor it writes an ELF note with the
 * ABI's numbers, by which the host refuses a plugin before any of its code runs. */
/* clang-format off */
#define WEFT_PLUGIN(name, version, init, start, fini)                                    \
    __asm__(".pushsection .note.weft, \"a\", %note\n"                                    \
            "\t.balign 4\n"                                                              \
            "\t.long 5, 8, 1\n"                                                          \
            "\t.asciz \"weft\"\n"                                                        \
            "\t.balign 4\n"                                                              \
            "\t.long " WEFT__TEXT(WEFT_ABI_MAJOR) ", " WEFT__TEXT(WEFT_ABI_TARGET) "\n"  \
            "\t.popsection\n");                                                          \
    const weft_api *weft__api;                                                           \
    const weft_plugin weft_plugin_1 = {WEFT_MAGIC, sizeof(weft_plugin), WEFT_ABI_MAJOR,  \
                                       WEFT_ABI_TARGET, 0, name, version, &weft__api,    \
                                       init, start, fini}
/* clang-format on */

/* ---- what the functions of weft.h share ------------------------------------------------------ */

/* Writes printf's way into `size` bytes at `text`: what fitted, with a NUL behind it. [any] */
WEFT_PRINTF(3, 0)
static inline weft_str weft__print(char *text, size_t size, const char *format, va_list args)
{
    weft_str made;
    int len = vsnprintf(text, size, format, args);
    made.ptr = text;
    made.len = len < 0 ? 0 : (size_t)len < size ? (size_t)len : size - 1;
    return made;
}

#ifdef __cplusplus
}
#endif

#endif
