/* plugin/abi.c - what every entry of the ABI begins with: whose call it is, and whether its handle
 * is good. */
#include "base/check.h"
#include "base/mem.h"
#include "base/slots.h"
#include "observe/blame.h"
#include "plugin/inside.h"
#include "task/tasks.h"
#include <assert.h>
#include <dlfcn.h>
#include <execinfo.h>
#include <stdio.h>

enum { LOG_SITES = 1024, PLACES_MAX = 256, FRAMES_MAX = 16 };

static_assert(sizeof(void *) == sizeof(uint64_t), "a handle travels as a pointer");

/* Kinds of handles, beside those of the task room. */
enum { HANDLE_HOST = 3, HANDLE_POOL, HANDLE_STATEMENT, HANDLE_UPSTREAM };

/* The loop's thread has one; see abi.h for why. */
static _Thread_local struct abi *here;

/* What a helper thread runs; NULL elsewhere. */
static _Thread_local const struct abi_work *thread_work;

/* Where the code of instances lies: for calls from threads of which nothing else is known, a
 * plugin's own. Code is never unmapped, so a place that was written stays as it is. */
static struct {
    uint32_t count; /* written by the loop's thread, read by all */
    struct place {
        const void *base; /* of its copy */
        char name[64];    /* of the instance; cut */
    } at[PLACES_MAX];
} places;

/* Life */

struct abi *abi_create(const struct plugin_services *services)
{
    struct abi *abi = mem_alloc(sizeof *abi);

    CHECK(here == NULL);
    CHECK(services->tasks != NULL);
    abi->services = *services;
    abi->hosts = slots_create(HANDLE_HOST);
    abi->pools = slots_create(HANDLE_POOL);
    abi->statements = slots_create(HANDLE_STATEMENT);
    abi->upstreams = slots_create(HANDLE_UPSTREAM);
    arena_pool_init(&abi->arenas, 0, NULL);
    arena_init(&abi->stray, &abi->arenas);
    here = abi;
    return abi;
}

void abi_destroy(struct abi *abi)
{
    if (abi == NULL)
        return;
    CHECK(here == abi);
    here = NULL;
    slots_destroy(abi->hosts);
    slots_destroy(abi->pools);
    slots_destroy(abi->statements);
    slots_destroy(abi->upstreams);
    buf_release(&abi->json);
    arena_deinit(&abi->stray);
    arena_pool_deinit(&abi->arenas);
    mem_free(abi);
}

const struct plugin_services *abi_services(const struct abi *abi)
{
    CHECK(abi != NULL);
    return &abi->services;
}

/* Who it is about */

void abi_thread_enter(const struct abi_work *work)
{
    CHECK(thread_work == NULL);
    thread_work = work;
}

void abi_know(const struct instance *instance, const void *descriptor)
{
    uint32_t count = __atomic_load_n(&places.count, __ATOMIC_RELAXED);
    Dl_info info;

    if (count == PLACES_MAX || dladdr(descriptor, &info) == 0)
        return;
    places.at[count].base = info.dli_fbase;
    snprintf(places.at[count].name, sizeof places.at[count].name, "%s", instance->name);
    __atomic_store_n(&places.count, count + 1, __ATOMIC_RELEASE);
}

/* The last one with this base: a test may load one file in two worlds. */
static struct span name_at(const void *address)
{
    Dl_info info;

    if (dladdr(address, &info) == 0)
        return (struct span){0};
    for (uint32_t i = __atomic_load_n(&places.count, __ATOMIC_ACQUIRE); i-- > 0;) {
        if (places.at[i].base == info.dli_fbase)
            return span_of(places.at[i].name);
    }
    return (struct span){0};
}

struct span abi_caller(void)
{
    struct span name = plugins_of_thread();
    void *frames[FRAMES_MAX];
    int count;

    if (name.ptr != NULL)
        return name;
    count = backtrace(frames, FRAMES_MAX);
    for (int i = 0; i < count && name.ptr == NULL; i++)
        name = name_at(frames[i]);
    return name;
}

void abi_thread_leave(void)
{
    thread_work = NULL;
}

struct span plugins_of_thread(void)
{
    return span_of(thread_work != NULL ? thread_work->plugin : NULL);
}

void plugins_blame_thread(struct blame *page)
{
    if (thread_work != NULL)
        blame_thread(page, thread_work->blame_index, thread_work->request);
}

const struct abi_route *abi_route_of(const struct scope *scope)
{
    const struct http_request *request = http_request_of(scope);

    if (request == NULL || request->match.route == NULL || request->match.route->fn != abi_serve)
        return NULL;
    return request->match.route->data;
}

/* The filter that the scope's request is asked of; NULL: none. */
static const struct abi_filter *filter_of(const struct scope *scope)
{
    const struct http_request *request = http_request_of(scope);
    const struct abi_service *service = request != NULL ? request->user : NULL;

    if (here != NULL && here->seeing != NULL)
        return here->seeing;
    return service != NULL ? service->filter : NULL;
}

struct instance *abi_instance_of(const struct abi *abi, const struct scope *scope)
{
    const struct abi_filter *filter;
    const struct abi_route *route;

    if (scope == NULL)
        scope = scope_current(abi->services.tasks);
    if (scope == NULL)
        return abi->seeing != NULL ? abi->seeing->instance : abi->running;
    filter = filter_of(scope);
    if (filter != NULL)
        return filter->instance;
    route = abi_route_of(scope);
    if (route != NULL)
        return route->instance;
    return abi_is_background(scope) ? scope->root->owner : NULL;
}

void abi_who(const struct abi *abi, const struct scope *scope, struct abi_who *who)
{
    const struct instance *instance = abi_instance_of(abi, scope);
    const struct abi_filter *filter;
    const struct abi_route *route;

    if (scope == NULL)
        scope = scope_current(abi->services.tasks);
    filter = scope != NULL ? filter_of(scope) : abi->seeing;
    route = scope != NULL && filter == NULL ? abi_route_of(scope) : NULL;
    *who = (struct abi_who){.fields = {{.key = "plugin"}, {.key = "route"}, {.key = "request"}}};
    if (instance != NULL)
        who->fields[0].value = span_of(instance->name);
    if (route != NULL)
        who->fields[1].value = span_of(route->text);
    if (filter != NULL)
        who->fields[1].value = span_of(filter->text);
    if (scope != NULL && scope->request_id != 0) {
        snprintf(who->request, sizeof who->request, "%016llx",
                 (unsigned long long)scope->request_id);
        who->fields[2].value = span_of(who->request);
    }
}

struct log_site *abi_log_site(struct span what, struct span of)
{
    static struct log_site sites[LOG_SITES];
    const struct span parts[] = {what, of};
    uint32_t hash = 2166136261u;

    for (int part = 0; part < 2; part++) {
        for (size_t i = 0; i < parts[part].len; i++)
            hash = (hash ^ (unsigned char)parts[part].ptr[i]) * 16777619u;
    }
    return &sites[(hash ^ hash >> 16) % LOG_SITES];
}

/* Entering */

void abi_misuse(const char *call, const char *what)
{
    struct instance *instance;
    struct abi_who who;

    if (here == NULL) {
        log_write_fields(abi_log_site(span_of(call), span_of(what)), LOG_ERROR,
                         &(struct log_field){"plugin", abi_caller()}, 1, "weft_%s(): %s", call,
                         what);
        return;
    }
    instance = abi_instance_of(here, NULL);
    if (instance != NULL)
        instance->misuses++;
    abi_who(here, NULL, &who);
    log_write_fields(abi_log_site(span_of(call), span_of(what)), LOG_ERROR, who.fields, 3,
                     "weft_%s(): %s", call, what);
}

struct abi *abi_here(void)
{
    return here;
}

struct abi *abi_enter(const char *call)
{
    if (here == NULL)
        abi_misuse(call, "called from a thread that is not the loop's");
    else
        here->entries++;
    return here;
}

struct scope *abi_scope(weft_ctx *ctx, const char *call)
{
    struct abi *abi = abi_enter(call);
    struct scope *scope;

    if (abi == NULL)
        return NULL;
    scope = scope_of(abi->services.tasks, abi_number(ctx));
    if (scope == NULL)
        abi_misuse(call, ctx == NULL ? "no ctx" : "a ctx that has ended, or none");
    return scope;
}

struct op *abi_op(weft_op *op, const char *call)
{
    struct abi *abi = abi_enter(call);
    struct op *found;

    if (abi == NULL)
        return NULL;
    found = op_of(abi->services.tasks, abi_number(op));
    if (found == NULL)
        abi_misuse(call, op == NULL ? "no op" : "an op that has gone, or none");
    return found;
}

struct http_request *abi_request(weft_ctx *ctx, const char *call)
{
    struct scope *scope = abi_scope(ctx, call);
    struct http_request *request = scope != NULL ? http_request_of(scope) : NULL;

    if (scope != NULL && request == NULL)
        abi_misuse(call, "a ctx that serves no request");
    return request;
}

struct instance *abi_init_of(weft_host *host, const char *call)
{
    struct abi *abi = abi_enter(call);
    struct instance *instance;

    if (abi == NULL)
        return NULL;
    instance = slots_get(abi->hosts, abi_number(host));
    if (instance == NULL)
        abi_misuse(call, "a host handle is good during init() only");
    return instance;
}

/* Handles and values */

weft_ctx *abi_ctx(const struct scope *scope)
{
    return scope != NULL ? (weft_ctx *)(uintptr_t)scope->handle : NULL;
}

weft_op *abi_handle(const struct op *op)
{
    return op != NULL ? (weft_op *)(uintptr_t)op->handle : NULL;
}

uint64_t abi_number(const void *handle)
{
    return (uint64_t)(uintptr_t)handle;
}

weft_str abi_str(struct span span)
{
    return (weft_str){span.ptr, span.ptr != NULL ? span.len : 0};
}

struct span abi_span(weft_str s)
{
    return (struct span){s.ptr, s.ptr != NULL ? s.len : 0};
}

bool abi_take_options(void *to, size_t known, const void *from)
{
    const unsigned char *bytes = from;
    uint32_t size = 0;

    CHECK(known >= sizeof size);
    memset(to, 0, known);
    if (from == NULL)
        return true;
    memcpy(&size, from, sizeof size);
    if (size < sizeof size) /* it was forgotten, and with it all that was meant */
        return false;
    for (size_t i = known; i < size; i++) {
        if (bytes[i] != 0)
            return false;
    }
    memcpy(to, from, size < known ? size : known);
    return true;
}
