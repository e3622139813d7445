/* http/serve.c - one request: made, routed, served, over.
 *
 *   made ──▶ admitted ──▶ started ──▶ answered ──▶ over ──▶ its scope ends
 *     └─────────┴──▶ answered (refused)              ▲
 *     └─────────┴────────────┴──▶ lost (the connection went) ──▶ FINISH or a shield: answered
 *
 * Over is where the access line is written and the scope is let go of, once. A request that lost
 * its connection is over at once, unless its route says FINISH or its scope is shielded: such a one
 * goes on, and whatever it answers is dropped. Waiting ops of the others settle as canceled.
 */
#include "base/check.h"
#include "base/clock.h"
#include "base/log.h"
#include "http/body.h"
#include "http/filter.h"
#include "http/inside.h"
#include "http/reply_file.h"
#include "http/reply_stream.h"
#include "http/response.h"
#include "observe/access.h"
#include "observe/blame.h"
#include <stdio.h>

/* ---- made ---- */

/* The same slice of the copy of a head; a NUL goes behind it, where there was a byte of syntax. */
static struct span moved(struct span slice, const struct http_head *head, char *copy)
{
    char *at;

    if (slice.ptr == NULL)
        return slice;
    CHECK(slice.ptr >= head->bytes.ptr);
    CHECK(slice.ptr + slice.len < head->bytes.ptr + head->bytes.len);
    at = copy + (slice.ptr - head->bytes.ptr);
    at[slice.len] = '\0';
    return (struct span){at, slice.len};
}

static void copy_fields(struct http_request *request, const struct http_head *head, char *copy)
{
    uint32_t count = head->fields.count;
    struct http_field *at;

    if (count == 0)
        return;
    at = arena_alloc(&request->scope->arena, count * sizeof(*at));
    for (uint32_t i = 0; i < count; i++) {
        at[i].name = moved(head->fields.at[i].name, head, copy);
        at[i].value = moved(head->fields.at[i].value, head, copy);
    }
    request->fields = (struct http_fields){at, count};
}

/* The whole head in one piece; only where NULs would cut one slice out of another are there
 * more. */
static void copy_head(struct http_request *request, const struct http_head *head)
{
    struct arena *arena = &request->scope->arena;
    char *copy = arena_bytes(arena, head->bytes.len);

    memcpy(copy, head->bytes.ptr, head->bytes.len);
    copy_fields(request, head, copy);
    request->method = moved(head->method, head, copy);
    request->target = moved(head->target, head, copy);
    request->query = moved(head->uri.query, head, copy);
    if (head->uri.path.ptr == head->target.ptr && head->uri.query.ptr == NULL)
        request->path = request->target;
    else
        request->path = arena_copy(arena, head->uri.path);
    request->host = head->uri.authority.ptr != NULL ? arena_copy(arena, head->uri.authority)
                                                    : moved(head->host, head, copy);
    request->is_head = span_equal(request->method, SPAN("HEAD"));
    request->is_http10 = head->minor == 0;
    request->must_close = !head->is_persistent;
    request->_body_length = head->length;
    request->_expects_word = head->expect != HTTP_EXPECT_NOTHING && head->has_body;
}

static const struct addr *copy_peer(struct scope *scope, const struct http_conn *conn)
{
    struct addr *addr = arena_alloc(&scope->arena, sizeof(*addr));

    memcpy(&addr->storage, conn->peer, sizeof(conn->peer)); /* all of it: a size that is known */
    addr->len = conn->peer_len;
    return addr;
}

static void on_idle(struct scope *scope);
static void on_cancel(struct scope *scope);
static void on_end(struct scope *scope);

static const struct scope_handler scope_handler = {
    .on_idle = on_idle, .on_cancel = on_cancel, .on_end = on_end};

bool http_serves(const struct scope *scope)
{
    return scope->handler == &scope_handler;
}

struct http_request *http_request_make(struct http_conn *conn, const struct http_head *head)
{
    struct http_server *server = conn->server;
    struct scope *scope = scope_create(server->setup.tasks, &scope_handler, NULL, 0);
    struct http_request *request = arena_alloc(&scope->arena, sizeof(*request));

    request->magic = HTTP_REQUEST_MAGIC;
    request->scope = scope;
    request->server = server;
    request->conn = conn;
    request->id = server->setup.id_base + ++server->ids;
    request->begun_us = conn->state == CONN_HEAD ? conn->since_us : loop_now_us(server->loop);
    request->peer = copy_peer(scope, conn);
    request->_reply_left = -1;
    request->_body_max = server->options->body_bytes_max;
    buf_init(&request->body, &server->buffers);
    buf_init(&request->_piece, &server->buffers);
    buf_init(&request->_out, &server->buffers);
    if (head != NULL) {
        server->counts->requests++;
        copy_head(request, head);
        if (server->trusted.count > 0)
            http_request_introduce(request);
    }
    scope->owner = request;
    scope->request_id = request->id;
    server->living++;
    server->counts->requests_open++;
    http_pipeline_add(conn, request);
    return request;
}

/* ---- admitted ---- */

void http_request_refuse(struct http_request *request, uint32_t code, const char *why,
                         struct span detail)
{
    enum err err;

    CHECK(request->reply == HTTP_REPLY_NONE);
    request->server->counts->refused += code < 500 || code == 501 || code == 505;
    if (request->why == NULL)
        request->why = why;
    err = http_problem(request, code, detail);
    CHECK(err == ERR_OK || err == ERR_CLOSED || err == ERR_IO);
}

/* Finds the route of the path; `*err` says what is wrong with it. */
static void find_route(struct http_request *request, enum err *err)
{
    const struct http_filters *filters = router_filters(request->server->setup.router);
    struct route_match *match = &request->match;
    struct span segments[URI_SEGMENTS_MAX];
    uint32_t count;
    char *decoded = arena_bytes(&request->scope->arena, request->path.len + 1);

    *err = uri_segments(request->path, decoded, segments, &count);
    if (*err != ERR_OK)
        return;
    router_match(request->server->setup.router, request->method, segments, count, match);
    if (filters->count > 0)
        http_filters_match(filters, request, segments, count);
    for (uint32_t i = 0; i < match->count; i++)
        decoded[match->values[i].ptr + match->values[i].len - decoded] = '\0';
}

static bool refuse_method(struct http_request *request)
{
    enum err err = http_reply_field(request, SPAN("Allow"), span_of(request->match.allow));

    CHECK(err == ERR_OK);
    http_request_refuse(request, 405, NULL, SPAN("the method is not served at this path"));
    return false;
}

static bool admit_path(struct http_request *request)
{
    enum err err;

    if (request->path.ptr[0] == '*') { /* OPTIONS for the server as a whole: it lives */
        err = http_reply(request, 200, (struct span){NULL, 0}, SPAN(""));
        CHECK(err == ERR_OK);
        return false;
    }
    find_route(request, &err);
    if (err == ERR_OK)
        return true;
    if (err == ERR_SYNTAX)
        http_request_refuse(request, 400, "bad_path",
                            SPAN("the path has a bad escape, or leads above its root"));
    else
        http_request_refuse(request, 414, "path_too_deep", SPAN("the path has too many segments"));
    return false;
}

/* False: as many are under way there as may be. */
static bool enter_route(struct http_request *request)
{
    struct http_route *route = request->match.route;

    if (route->requests_max == 0 || (route->flags & HTTP_ROUTE_VITAL) != 0)
        return true;
    if (route->requests_open >= route->requests_max)
        return false;
    CHECK(!request->_is_counted);
    request->_is_counted = true;
    route->requests_open++;
    return true;
}

bool http_request_admit_route(struct http_request *request)
{
    const struct http_route *route = request->match.route;

    if (request->match.is_other_method)
        return refuse_method(request);
    if (route == NULL)
        http_request_refuse(request, 404, NULL, SPAN("nothing is served at this path"));
    else if (route->closed != NULL)
        http_request_refuse(request, 503, "quarantine", span_of(route->closed));
    else if (!enter_route(request))
        http_request_refuse(request, 503, "route_busy",
                            SPAN("too many requests for this are under way"));
    else
        return true;
    return false;
}

/* The filter that is asked first; NULL: none is. */
static const struct http_filter *first_asked(const struct http_request *request)
{
    for (uint32_t i = 0; i < request->filter_count; i++) {
        if (request->filters[i]->ask != NULL)
            return request->filters[i];
    }
    return NULL;
}

/* Or did it wait for others of its connection? */
static bool lay_for_itself(const struct http_conn *conn)
{
    return conn->open == 1;
}

/* Is there capacity for it? What says how well we are is served in any case. */
static bool admit_load(struct http_request *request)
{
    struct http_server *server = request->server;
    const struct http_route *route = request->match.route;

    if (route != NULL && (route->flags & HTTP_ROUTE_VITAL) != 0)
        return true;
    if (server->counts->requests_open > server->options->requests_max) {
        http_request_refuse(request, 503, "requests_max", SPAN("too many requests are under way"));
        return false;
    }
    if (server->shed.after_ms == 0)
        return true;
    if (!http_shed_ask(&server->shed,
                       lay_for_itself(request->conn) ? request->conn->stream.fd : -1) &&
        (route == NULL || !line_is_any_long(server->setup.tasks, route->lines)))
        return true;
    server->shed.count++;
    http_request_refuse(request, 503, "shed", SPAN("the server has too much to do"));
    return false;
}

bool http_request_admit(struct http_request *request, const struct http_head *head)
{
    if (!admit_path(request) || !admit_load(request))
        return false;
    request->_is_asked = first_asked(request) != NULL; /* then the route's turn comes later */
    if (!request->_is_asked && !http_request_admit_route(request))
        return false;
    if (head->expect == HTTP_EXPECT_OTHER) {
        http_request_refuse(request, 417, NULL, SPAN("only 100-continue can be expected"));
        return false;
    }
    if (request->match.route != NULL && request->match.route->body_bytes_max > 0)
        request->_body_max = request->match.route->body_bytes_max;
    if (head->length >= 0 && (uint64_t)head->length > request->_body_max) {
        http_request_refuse(request, 413, "body_too_big",
                            SPAN("the body is larger than the limit"));
        return false;
    }
    return true;
}

/* ---- started ---- */

static uint32_t budget_of(const struct http_request *request)
{
    const struct http_route *route = request->match.route;

    return route != NULL && route->timeout_ms > 0 ? route->timeout_ms
                                                  : request->server->options->request_timeout_ms;
}

void http_request_ask(struct http_request *request)
{
    const struct http_filter *filter = first_asked(request);

    CHECK(request->_is_asked);
    CHECK(filter != NULL);
    scope_tighten(request->scope, budget_of(request));
    filter->ask(request, filter);
}

void http_request_pass(struct http_request *request)
{
    CHECK_OBJ(request, HTTP_REQUEST_MAGIC);
    CHECK(request->_is_asked);
    if (request->reply != HTTP_REPLY_NONE || request->conn == NULL ||
        request->scope->why != SCOPE_ALIVE)
        return;
    request->_is_asked = false;
    request->_has_passed = true;
    scope_renew(request->scope, 0); /* its body's time, then its handler's */
    http_conn_go_on(request->conn);
}

void http_request_renew(struct http_request *request)
{
    if (request->reply == HTTP_REPLY_NONE && http_request_streams(request))
        scope_renew(request->scope, budget_of(request));
}

void http_request_start(struct http_request *request)
{
    struct http_route *route = request->match.route;
    struct http_server *server = request->server;

    CHECK(!http_request_is_started(request));
    CHECK(!request->_is_asked); /* its filters have let it pass */
    CHECK(request->conn != NULL);
    CHECK(route != NULL);
    request->handler_us = loop_now_us(server->loop);
    request->_is_after_fin = request->conn->is_ended || stream_is_ended(&request->conn->stream);
    request->scope->blame_index = route->blame_index;
    route->requests++;
    scope_tighten_unwatched(request->scope, budget_of(request)); /* most are over at once */
    route->fn(request, route->data);
    if (request->_is_over)
        scope_reap(request->scope);
    else
        scope_watch(request->scope);
}

void http_request_reap(struct http_request *request)
{
    if (request->_is_over)
        scope_reap(request->scope);
}

static const char *owner_of(const struct http_request *request)
{
    const struct http_route *route = request->match.route;

    return route != NULL && route->owner != NULL ? route->owner : "-";
}

void http_request_blame(const struct http_request *request, const char *what)
{
    const struct http_route *route = request->match.route;

    log_error("plugin %s: route %s %s: %s, request %016llx", owner_of(request),
              route != NULL ? route->method : "-", route != NULL ? route->pattern : "-", what,
              (unsigned long long)request->id);
}

/* Nothing of a request goes on whose answer has begun. */
static void end_for(struct http_request *request)
{
    static const char *const whys[] = {
        [SCOPE_ALIVE] = "unfinished",  [SCOPE_CLIENT_GONE] = "client_gone",
        [SCOPE_DEADLINE] = "deadline", [SCOPE_SIBLING] = "canceled",
        [SCOPE_EXPLICIT] = "canceled", [SCOPE_REPLIED] = NULL,
        [SCOPE_SHUTDOWN] = "shutdown", [SCOPE_MEMORY] = "memory",
    };
    enum scope_why why = request->scope->why;

    if (why == SCOPE_ALIVE)
        http_request_blame(request, "left its answer unfinished");
    else if (why == SCOPE_MEMORY)
        http_request_blame(request, "was given up beyond its limit of memory");
    if (why == SCOPE_SHUTDOWN && http_stream_is_live(request))
        http_stream_end_live(request, whys[why]);
    else
        http_stream_break(request, whys[why]);
}

/* Its filters are done, and its handler was not called yet: its body comes. */
static bool is_coming(const struct http_request *request)
{
    return request->filter_count > 0 && !request->_is_asked && !http_request_is_started(request) &&
           request->reply == HTTP_REPLY_NONE && request->scope->why == SCOPE_ALIVE;
}

/* Nothing of a request goes on that was canceled, or whose handler forgot to answer. The handler's
 * layer is asked first. */
static void answer_for(struct http_request *request)
{
    CHECK(request->conn != NULL);
    CHECK(request->reply != HTTP_REPLY_ENDED);
    if (is_coming(request))
        return;
    if (request->reply == HTTP_REPLY_NONE && request->on_idle != NULL &&
        request->scope->why != SCOPE_CLIENT_GONE) {
        request->on_idle(request);
        if (request->reply == HTTP_REPLY_ENDED || !scope_is_idle(request->scope))
            return;
    }
    if (request->reply == HTTP_REPLY_BEGUN) {
        end_for(request);
        return;
    }
    switch (request->scope->why) {
    case SCOPE_CLIENT_GONE:
        return;
    case SCOPE_DEADLINE:
        http_request_refuse(request, 504, NULL, SPAN("the request took too long"));
        return;
    case SCOPE_SHUTDOWN:
        http_request_refuse(request, 503, "shutdown", SPAN("the server is shutting down"));
        return;
    case SCOPE_MEMORY:
        http_request_blame(request, "was given up beyond its limit of memory");
        http_request_refuse(request, 500, "memory", (struct span){NULL, 0});
        return;
    case SCOPE_ALIVE:
    case SCOPE_SIBLING:
    case SCOPE_EXPLICIT:
    case SCOPE_REPLIED:
        http_request_blame(request, "neither answers nor waits for anything");
        http_request_refuse(request, 500, "no_reply", (struct span){NULL, 0});
        return;
    }
}

/* ---- over ---- */

static const char *why_of(const struct http_request *request, enum scope_why why)
{
    const struct scope *scope = request->scope;

    if (request->why != NULL)
        return request->why;
    if (why != SCOPE_REPLIED)
        return why == SCOPE_CLIENT_GONE ? "client_gone" : "shutdown";
    if (scope->why == SCOPE_DEADLINE)
        return "deadline";
    if (request->code < 500)
        return "done";
    return scope->reason != NULL ? scope->reason : "handler"; /* its own decision */
}

/* A client that left got no answer: 499, as nginx has it; one that we cut off: 0. */
static uint32_t status_of(const struct http_request *request, enum scope_why why)
{
    if (why == SCOPE_REPLIED)
        return request->code;
    return why == SCOPE_CLIENT_GONE ? 499 : 0;
}

static void write_access(const struct http_request *request, enum scope_why why, uint64_t total_us)
{
    const struct http_server *server = request->server;
    const struct http_route *route = request->match.route;
    const struct scope *scope = request->scope;
    char peer[ADDR_TEXT_SIZE];
    struct access_line line = {.wall_us = clock_wall_us(),
                               .id = request->id,
                               .method = request->method,
                               .path = request->target,
                               .status = status_of(request, why),
                               .bytes_out = request->_out_bytes,
                               .total_us = total_us,
                               .queue_us = scope->spent_us[SCOPE_TIME_QUEUE],
                               .pg_us = scope->spent_us[SCOPE_TIME_PG],
                               .call_us = scope->spent_us[SCOPE_TIME_CALL],
                               .why = why_of(request, why)};

    line.peer = (struct span){peer, addr_port(request->peer) != 0 ||
                                            request->peer->storage.ss_family == AF_UNIX
                                        ? addr_format(request->peer, peer)
                                        : addr_format_host(request->peer, peer)};
    line.given_id = request->given_id;
    if (route != NULL) {
        line.route = span_of(route->pattern);
        line.plugin = span_of(route->owner);
    }
    access_write(server->setup.access, &line);
}

static void log_slow(const struct http_request *request, enum scope_why why, uint64_t total_us)
{
    const struct scope *scope = request->scope;
    char queue[24], pg[24], call[24];
    struct scope_who who;

    scope_who(scope, &who);
    snprintf(queue, sizeof queue, "%.3f", (double)scope->spent_us[SCOPE_TIME_QUEUE] / 1000);
    snprintf(pg, sizeof pg, "%.3f", (double)scope->spent_us[SCOPE_TIME_PG] / 1000);
    snprintf(call, sizeof call, "%.3f", (double)scope->spent_us[SCOPE_TIME_CALL] / 1000);
    log_fields(LOG_WARN,
               LOG_FIELDS(who.fields[0], who.fields[1], who.fields[2], {"queue_ms", span_of(queue)},
                          {"pg_ms", span_of(pg)}, {"call_ms", span_of(call)},
                          {"why", span_of(why_of(request, why))}),
               "slow request: %.3f ms, answered %u", (double)total_us / 1000,
               status_of(request, why));
}

/* What lines do requests of the route join? Those that two of the last three have joined: a route
 * that asks its database now and then only is served while that is busy. */
static void note_lines(const struct http_request *request)
{
    struct http_route *route = request->match.route;
    uint32_t now = request->scope->lines;

    if (route == NULL || !http_request_is_started(request))
        return;
    route->lines = (now & (route->lines_seen[0] | route->lines_seen[1])) |
                   (route->lines_seen[0] & route->lines_seen[1]);
    route->lines_seen[1] = route->lines_seen[0];
    route->lines_seen[0] = now;
}

/* Counts it, and writes the lines about it. */
static void note_over(struct http_request *request, enum scope_why why)
{
    const struct http_server *server = request->server;
    const struct http_route *route = request->match.route;
    uint32_t slow_ms = server->options->slow_request_ms;
    /* The turn's own time too: a handler may have used it. */
    uint64_t total_us = loop_refresh_us(server->loop) - request->begun_us;
    bool is_slow = slow_ms > 0 && total_us / 1000 >= slow_ms && !http_stream_is_live(request) &&
                   request->_file == NULL; /* how long a large one takes is up to the client */
    bool is_well = why == SCOPE_REPLIED && request->why == NULL && request->code < 500;

    blame_request(request->scope->tasks->blame, route != NULL ? route->blame_index : BLAME_HOST,
                  status_of(request, why), total_us);
    loop_step_ended(server->loop, total_us);
    if (!is_well)
        http_reasons_add(&server->counts->reasons, why_of(request, why));
    if (server->setup.access != NULL || is_slow)
        scope_cancel(request->scope, why); /* what is under way has cost what it has cost */
    if (server->setup.access != NULL)
        write_access(request, why, total_us);
    if (is_slow)
        log_slow(request, why, total_us);
    note_lines(request);
}

static void leave_route(struct http_request *request)
{
    struct http_route *route = request->match.route;

    if (!request->_is_counted)
        return;
    CHECK(route->requests_open > 0);
    route->requests_open--;
}

void http_request_over(struct http_request *request, enum scope_why why)
{
    CHECK(!request->_is_over);
    CHECK(request->conn == NULL);
    request->_is_over = true;
    list_remove(&request->_link);
    http_stream_stop(request);
    if (request->_file != NULL)
        http_file_stop(request);
    note_over(request, why);
    leave_route(request);
    CHECK(request->server->counts->requests_open > 0);
    request->server->counts->requests_open--;
    scope_finish(request->scope, why);
}

void http_request_lose(struct http_request *request, enum scope_why why)
{
    bool finishes = request->match.route != NULL &&
                    (request->match.route->flags & HTTP_ROUTE_FINISH) != 0 &&
                    http_request_is_started(request) && request->reply != HTTP_REPLY_ENDED;

    CHECK(request->conn == NULL);
    CHECK(!request->_is_over);
    buf_release(&request->_out);
    http_stream_stop(request);
    if (!request->is_body_complete)
        http_body_fail(request, ERR_CANCELED, NULL);
    if (why != SCOPE_CLIENT_GONE || !finishes)
        scope_cancel(request->scope, why);
    if (request->scope->why == SCOPE_ALIVE && request->reply != HTTP_REPLY_ENDED)
        list_append(&request->server->lost, &request->_link); /* goes on, for nobody to hear */
    else
        http_request_over(request, why);
}

/* ---- what the scope tells ---- */

static void on_idle(struct scope *scope)
{
    struct http_request *request = scope->owner;

    CHECK_OBJ(request, HTTP_REQUEST_MAGIC);
    if (request->_is_over || request->reply == HTTP_REPLY_ENDED)
        return;
    if (request->conn == NULL) {
        http_request_over(request, SCOPE_CLIENT_GONE);
        return;
    }
    answer_for(request);
}

static void on_cancel(struct scope *scope)
{
    struct http_request *request = scope->owner;

    CHECK_OBJ(request, HTTP_REQUEST_MAGIC);
    if (request->_is_over)
        return;
    if (scope->why == SCOPE_CLIENT_GONE && request->conn != NULL) {
        http_conn_close(request->conn, SCOPE_CLIENT_GONE);
        return;
    }
    if (request->conn == NULL) {
        if (scope->why == SCOPE_CLIENT_GONE || scope_is_idle(scope))
            http_request_over(request, SCOPE_CLIENT_GONE);
        return;
    }
    if (request->reply != HTTP_REPLY_ENDED && scope_is_idle(scope))
        answer_for(request);
}

static void on_end(struct scope *scope)
{
    struct http_request *request = scope->owner;

    CHECK_OBJ(request, HTTP_REQUEST_MAGIC);
    CHECK(request->_is_over);
    buf_release(&request->body);
    buf_release(&request->_piece);
    request->magic = 0;
    CHECK(request->server->living > 0);
    request->server->living--;
    http_server_lost(request->server);
}
