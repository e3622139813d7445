/* plugin/abi_run.c - what is called of a plugin: init, start, fini, handlers, and what comes of the
 * status that they return.
 *
 * A request: its handler runs on a fiber. The first failure that a handler or callback returns
 * becomes the reply, unless there is one; where nothing runs and nothing is pending any more, and
 * there is still no reply, on_idle() makes one. So no request hangs, and each failure is logged
 * once.
 */
#include "base/check.h"
#include "base/slots.h"
#include "http/reply_stream.h"
#include "http/response.h"
#include "observe/blame.h"
#include "pg/query.h"
#include "plugin/inside.h"
#include "task/group.h"
#include "task/tasks.h"
#include <assert.h>

/* Bytes of a request's ctx before it is canceled; SCOPE_MEMORY_HARD ends the worker. */
enum { MEMORY_SOFT = 16 << 20 };

static const weft_api api = {
    .size = sizeof(weft_api),
    .minor = ABI_MINOR,
    .core = &abi_core,
    .http = &abi_http,
    .pg = &abi_pg,
    .call = &abi_call,
};
static_assert(ABI_MAJOR == WEFT_ABI_MAJOR, "the ABI's major");
static_assert(ABI_MINOR == WEFT_ABI_MINOR, "the ABI's minor");

/* Failures */

void abi_note_failure(struct scope *scope, const struct op *op)
{
    struct http_request *request = scope != NULL ? http_request_of(scope) : NULL;

    if (op->status == ERR_OK || request == NULL || request->user == NULL)
        return;
    ((struct abi_service *)request->user)->failed =
        op_is_group(op) && group_child(op) != 0 ? group_child(op) : op->handle;
}

static const char *const why_names[] = {
    [SCOPE_ALIVE] = NULL,          [SCOPE_CLIENT_GONE] = "client_gone",
    [SCOPE_DEADLINE] = "deadline", [SCOPE_SIBLING] = "sibling",
    [SCOPE_EXPLICIT] = "explicit", [SCOPE_REPLIED] = "replied",
    [SCOPE_SHUTDOWN] = "shutdown", [SCOPE_MEMORY] = "memory",
};

/* The op whose failure the plugin was told last; NULL: none, or it has gone. */
static const struct op *failed_op(const struct scope *scope)
{
    const struct http_request *request = http_request_of(scope);

    if (request == NULL || request->user == NULL)
        return NULL;
    return op_of(scope->tasks, ((const struct abi_service *)request->user)->failed);
}

/* What the database says of a value that it refused has the value in it: a client's, not for a
 * log. */
static struct span error_of(const struct op *op)
{
    return op->error.len > 0 && op->status != ERR_DB_VALUE ? op->error : (struct span){0};
}

/* `code`: the reply; 0: none, or one that has begun. */
static void log_failure(struct scope *scope, enum log_level level, weft_status status,
                        uint32_t code)
{
    const struct http_request *request = http_request_of(scope);
    const struct op *op = failed_op(scope);
    struct span text = span_of(abi_status_text(status));
    char answered[40] = "";
    struct abi_who who;

    if (!log_is_on(level))
        return;
    if (request != NULL && code > 0)
        snprintf(answered, sizeof answered, ", answered %u", code);
    else if (request != NULL)
        snprintf(answered, sizeof answered, ", its answer is broken off");
    abi_who(abi_here(), scope, &who);
    const struct log_field fields[] = {
        who.fields[0],
        who.fields[1],
        who.fields[2],
        {"reason", span_of(scope->root->reason)},
        {"why", span_of(why_names[scope->why])},
        {"error", op != NULL ? error_of(op) : (struct span){0}},
        {"statement", op != NULL ? pg_op_statement(op) : (struct span){0}},
        {"sqlstate", op != NULL ? pg_sqlstate(op) : (struct span){0}},
        {"detail", request != NULL ? request->detail : (struct span){0}},
    };
    log_write_fields(abi_log_site(text, who.fields[1].value), level, fields,
                     sizeof fields / sizeof fields[0], "%s: status %d%s", text.ptr, (int)status,
                     answered);
}

/* What a client gets for `status`. One that was given up while the client waits is nobody's wish
 * but ours or the plugin's. */
static uint32_t code_for(const struct scope *scope, weft_status status)
{
    if (status != WEFT_E_CANCELED)
        return abi_code(status);
    switch (scope->root->why) {
    case SCOPE_CLIENT_GONE:
        return 499;
    case SCOPE_DEADLINE:
        return 504;
    case SCOPE_SHUTDOWN:
        return 503;
    case SCOPE_ALIVE:
    case SCOPE_SIBLING:
    case SCOPE_EXPLICIT:
    case SCOPE_REPLIED:
    case SCOPE_MEMORY:
        return 500;
    }
    return 500;
}

/* What the client did wrong is its own business, but for what a database has to say about it. */
static enum log_level level_for(weft_status status, uint32_t code)
{
    if (code < 500)
        return status == WEFT_E_DB_CONSTRAINT || status == WEFT_E_DB_VALUE ? LOG_INFO : LOG_DEBUG;
    return code == 500 ? LOG_ERROR : LOG_WARN;
}

/* A job that hands on that it was canceled, since its worker ends, does what it should. */
static enum log_level level_in_background(const struct scope *scope, weft_status status)
{
    return status == WEFT_E_CANCELED && scope->root->why == SCOPE_SHUTDOWN ? LOG_DEBUG : LOG_WARN;
}

void abi_answer_failure(struct http_request *request, weft_status status)
{
    uint32_t code = code_for(request->scope, status);
    enum err err;

    log_failure(request->scope, level_for(status, code), status, code);
    err = http_problem(request, code, request->detail);
    if (err != ERR_OK && err != ERR_CLOSED)
        log_debug("no reply for a failed handler: %s", err_text(err));
}

/* A handler failed whose answer has begun: the client has to see that this is not all of it, and
 * nobody else sees why. One that was given up ends when nothing of it runs any more
 * (http/serve.c). */
static void break_off(struct http_request *request, weft_status status)
{
    enum log_level level = level_for(status, code_for(request->scope, status));

    if (status == WEFT_E_CANCELED && request->scope->why != SCOPE_ALIVE)
        return;
    log_failure(request->scope, level < LOG_INFO ? level : LOG_INFO, status, 0);
    http_stream_break(request, "handler");
}

void abi_take_status(struct scope *scope, weft_status status)
{
    struct http_request *request = http_request_of(scope);

    CHECK_OBJ(scope, SCOPE_MAGIC);
    if (status == WEFT_OK)
        return;
    if (request == NULL)
        log_failure(scope, level_in_background(scope, status), status, 0);
    else if (request->reply == HTTP_REPLY_NONE)
        abi_answer_failure(request, status);
    else if (request->reply == HTTP_REPLY_BEGUN)
        break_off(request, status);
    else
        log_debug("a handler returned %d after its reply", (int)status);
}

/* Requests */

static void run_handler(struct scope *scope, void *data)
{
    const struct abi_route *route = data;
    void *self = route->self != NULL ? route->self : route->instance->self;

    abi_take_status(scope, route->fn(abi_ctx(scope), self));
}

/* Nothing runs and nothing is pending: no reply will come any more. For one that was given up the
 * server has an answer. */
static void on_idle(struct http_request *request)
{
    enum scope_why why = request->scope->why;
    struct abi_who who;

    if (why == SCOPE_DEADLINE || why == SCOPE_SHUTDOWN || why == SCOPE_MEMORY)
        return;
    abi_who(abi_here(), request->scope, &who);
    log_write_fields(abi_log_site(SPAN("no reply"), who.fields[1].value), LOG_ERROR, who.fields, 3,
                     "the handler sent no reply, and nothing is pending: answered 500");
    request->why = "no_reply";
    if (http_problem(request, 500, (struct span){0}) != ERR_OK)
        log_debug("a reply that has begun is left to the server");
}

struct abi_service *abi_take_request(struct http_request *request)
{
    CHECK_OBJ(request, HTTP_REQUEST_MAGIC);
    if (request->user == NULL) {
        request->scope->memory_max = MEMORY_SOFT;
        request->user = arena_alloc(&request->scope->arena, sizeof(struct abi_service));
        request->on_idle = on_idle;
    }
    return request->user;
}

void abi_serve(struct http_request *request, void *data)
{
    const struct abi_route *route = data;

    CHECK_OBJ(route->instance, INSTANCE_MAGIC);
    abi_take_request(request);
    if (scope_run(request->scope, run_handler, data, false))
        return;
    request->why = "fibers";
    abi_answer_failure(request, WEFT_E_OVERLOAD);
}

/* Instances */

static const weft_plugin *plugin_of(const struct instance *instance)
{
    return instance->descriptor;
}

static void tell_identity(const struct instance *instance, const weft_plugin *plugin)
{
    const struct plugin_watch *watch = abi_services(instance->abi)->watch;

    if (watch != NULL)
        watch->bound(watch->data, &(struct plugin_identity){.name = plugin->name,
                                                            .version = plugin->version,
                                                            .major = plugin->abi_major,
                                                            .minor = plugin->abi_minor});
}

enum err abi_bind(struct instance *instance, const void *descriptor)
{
    const weft_plugin *plugin = descriptor;

    CHECK_OBJ(instance, INSTANCE_MAGIC);
    if (plugin->magic != WEFT_MAGIC || plugin->size < sizeof *plugin) {
        instance_fail(instance, 0, "%s has a descriptor that is none, or is cut short",
                      instance->file);
        return ERR_UNSUPPORTED;
    }
    if (plugin->abi_major != ABI_MAJOR || plugin->abi_minor > ABI_MINOR) {
        instance_fail(instance, 0, "%s needs ABI %u.%u, and this host has %u.%u", instance->file,
                      plugin->abi_major, plugin->abi_minor, ABI_MAJOR, ABI_MINOR);
        return ERR_UNSUPPORTED;
    }
    if (plugin->name == NULL || plugin->version == NULL || plugin->api == NULL ||
        plugin->init == NULL) {
        instance_fail(instance, 0, "%s has no name, no version or no init() in its descriptor",
                      instance->file);
        return ERR_UNSUPPORTED;
    }
    instance->descriptor = plugin;
    abi_know(instance, plugin);
    *plugin->api = &api;
    tell_identity(instance, plugin);
    return ERR_OK;
}

/* A name for what runs of the plugin without a request; in parentheses, so that nobody takes it for
 * a route that could be closed. */
static uint32_t name_it(const struct instance *instance, const char *what)
{
    return blame_name(instance->abi->services.blame, span_of(instance->name), span_of(what));
}

/* Runs before and after a call of the plugin that is made on the loop's own stack. */
static void enter(struct instance *instance, const char *what)
{
    CHECK(instance->abi->running == NULL);
    instance->abi->running = instance;
    blame_enter(instance->abi->services.blame, name_it(instance, what), 0);
}

static void leave(struct instance *instance)
{
    instance->abi->running = NULL;
    blame_leave(instance->abi->services.blame);
}

enum err abi_init(struct instance *instance)
{
    struct abi *abi = instance->abi;
    uint64_t handle;
    weft_status status;

    CHECK_OBJ(instance, INSTANCE_MAGIC);
    handle = slots_add(abi->hosts, instance);
    enter(instance, "(init)");
    status = plugin_of(instance)->init((weft_host *)(uintptr_t)handle, &instance->self);
    leave(instance);
    slots_remove(abi->hosts, handle);
    if (status == WEFT_OK) {
        if (instance->problem[0] != '\0')
            log_warn("%s: its init() went on nevertheless", instance->problem);
        return ERR_OK;
    }
    instance_fail(instance, 0, "%s: its init() returned %d: %s", instance->file, (int)status,
                  abi_status_text(status));
    return ERR_INVALID;
}

/* What start() returned, if it came back at once. */
struct first_status {
    struct instance *instance;
    bool has_returned;
    weft_status status;
};

static void run_start(struct scope *scope, void *data)
{
    struct first_status *first = data;
    struct instance *instance = first->instance;
    weft_status status = plugin_of(instance)->start(abi_ctx(scope), instance->self);

    if (instance->state != INSTANCE_READY) { /* it has waited: nobody looks at `first` any more */
        abi_take_status(scope, status);
        return;
    }
    first->status = status;
    first->has_returned = true;
}

static void on_background_end(struct scope *scope)
{
    instance_background_ended(scope->owner);
}

static const struct scope_handler background_handler = {.on_end = on_background_end};

bool abi_is_background(const struct scope *scope)
{
    return scope->root->handler == &background_handler;
}

/* Runs start() until it first waits; what it goes on with then, and posts, are the background's. */
static bool begin_start(struct instance *instance, struct first_status *first)
{
    struct scope *background = instance->background;
    uint32_t index = background->blame_index;
    bool has_run;

    background->blame_index = name_it(instance, "(start)");
    has_run = scope_run(background, run_start, first, true);
    background->blame_index = index;
    return has_run;
}

enum err abi_start(struct instance *instance)
{
    struct first_status first = {.instance = instance};
    struct abi *abi = instance->abi;

    CHECK(instance->state == INSTANCE_READY);
    if (plugin_of(instance)->start == NULL && instance->inbox == NULL)
        return ERR_OK;
    instance->background = scope_create(abi->services.tasks, &background_handler, instance, 0);
    instance->background->blame_index = name_it(instance, "(background)");
    abi_inbox_start(instance);
    if (plugin_of(instance)->start == NULL)
        return ERR_OK;
    if (!begin_start(instance, &first) || (first.has_returned && first.status != WEFT_OK)) {
        instance_fail(instance, 0, "%s: its start() returned %d: %s", instance->file,
                      (int)first.status, abi_status_text(first.status));
        return ERR_INVALID;
    }
    return ERR_OK;
}

void abi_fini(struct instance *instance)
{
    CHECK_OBJ(instance, INSTANCE_MAGIC);
    if (plugin_of(instance)->fini == NULL)
        return;
    enter(instance, "(fini)");
    plugin_of(instance)->fini(instance->self);
    leave(instance);
}
