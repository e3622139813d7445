/* lib/http_world.h - an HTTP server in the test's process, with clients on socket pairs.
 *
 * Time stands still but where the test moves it. The routes that most tests want are there:
 *
 *   GET /hello           "hello"                    GET /empty      204
 *   GET /p/:id           the id                     GET /r/:x/(rest)  "x|rest"
 *   GET /q               the query's `name`         GET /chunked    "ab" and "cd", unknown length
 *   GET /host            the host                   GET /type       "{}", application/json, X-A
 *   POST /echo, PUT too  the body                   POST /small     the body, limit of 4 bytes
 *   GET /wait/:n, POST   waits: http_world_answer() GET /finish     the same, with FINISH
 *   POST /stream         pulls its body, and answers with its length
 *
 * Loop:   the world's, turned by the test.
 * Memory: embed the world; http_world_deinit() fails the test where anything still lives.
 */
#ifndef WEFT_TESTS_LIB_HTTP_WORLD_H
#define WEFT_TESTS_LIB_HTTP_WORLD_H

#include "http/response.h"
#include "http/server.h"
#include "lib/task_world.h"
#include "lib/temp_dir.h"

struct access_log;

enum { HTTP_WORLD_WAITING_MAX = 64, HTTP_TEXT_SIZE = 16384 };

/* All that a test of the server needs. */
struct http_world {
    struct world world;          /* clock, loop, tasks */
    struct router *router;       /* with the routes above */
    struct http_options options; /* the defaults; to be changed before http_world_start() */
    struct http_server *server;  /* NULL before that */
    struct temp_dir dir;         /* for the access log */
    struct access_log *access;   /* a file there */
    uint32_t rooms;              /* times that on_room ran */
    uint32_t drained;            /* times that the server told it is drained */
    uint32_t started;            /* handlers that were called */
    struct http_request *waiting[HTTP_WORLD_WAITING_MAX]; /* requests to /wait and /finish */
    uint32_t waiting_count;    /* of them, in their order; answered ones are NULL */
    char text[HTTP_TEXT_SIZE]; /* what the last call of a reading function answered */
};

/* Makes it, without a server yet. */
void http_world_init(struct http_world *http);

/* Makes the server, with the options as they are now. */
void http_world_start(struct http_world *http);

/* Ends it. Connections that are still open are cut off. */
void http_world_deinit(struct http_world *http);

/* Adds a route. */
struct http_route *http_world_route(struct http_world *http, const char *method,
                                    const char *pattern, http_handler_fn *fn, uint32_t flags);

/* A new client's end; the test closes it. */
int http_world_connect(struct http_world *http);

/* Turns until all that can happen now has. */
void http_world_settle(struct http_world *http);

/* Sends `bytes`, as far as the server is still there, and settles. */
void http_world_send(struct http_world *http, int fd, struct span bytes);

/* What the client has got since the last call, as it came. */
const char *http_world_read(struct http_world *http, int fd);

/* The same, taken apart: "200(hello)" for each answer, "x" behind the code where it says close, "k"
 * where it says keep-alive, no body of a problem; "$" at the end of file, "?" for what is none.
 * `heads`: bit N is set where answer N (from 0, interim ones not counted) is to a HEAD. */
const char *http_world_answers(struct http_world *http, int fd, uint32_t heads);

/* Answers the request that waits as number `index` with "<its n>"; settles. */
void http_world_answer(struct http_world *http, uint32_t index);

/* The lines of the access log so far. */
const char *http_world_log(struct http_world *http);

/* What `text`, of answers, is in the form of http_world_answers(); into `trace`. */
void http_trace(const char *text, size_t len, bool is_end, uint32_t heads, char *trace,
                size_t size);

#endif
