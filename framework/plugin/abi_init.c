/* plugin/abi_init.c - the part of `core` that init() uses: routes, settings, shared memory. */
#include "base/number.h"
#include "http/router.h"
#include "observe/blame.h"
#include "plugin/inside.h"
#include <assert.h>
#include <stdio.h>

static_assert(WEFT_ROUTE_FINISH == HTTP_ROUTE_FINISH && WEFT_ROUTE_STREAM == HTTP_ROUTE_STREAM_BODY,
              "flags of a route");

/* As a route's own limit; 0 stays the host's. */
static uint64_t body_limit(uint32_t bytes_max)
{
    return bytes_max != UINT32_MAX ? bytes_max : INT64_MAX;
}

/* Adds `route` to the router, with the mount before its pattern. On failure says why. */
static enum err add_route(struct abi_route *route, const char *method, const char *pattern,
                          const weft_route_options *options)
{
    struct instance *instance = route->instance;
    const struct plugin_services *services = abi_services(instance->abi);
    bool is_root = instance->options.mount[0] == '\0' && pattern[0] == '\0';
    struct span path =
        arena_format(&instance->arena, "%s%s", instance->options.mount, is_root ? "/" : pattern);
    const struct http_route *other = NULL;
    struct http_route *added;
    const struct http_route made = {.method = (char *)method,
                                    .pattern = (char *)path.ptr,
                                    .fn = abi_serve,
                                    .data = route,
                                    .owner = instance->name,
                                    .flags = options->flags,
                                    .timeout_ms = options->timeout_ms,
                                    .requests_max = options->requests_max,
                                    .body_bytes_max = body_limit(options->body_bytes_max)};
    enum err err = router_add(services->router, &made, &added, &other);

    route->text = arena_format(&instance->arena, "%s %s", method, path.ptr).ptr;
    if (err == ERR_OK)
        added->blame_index =
            blame_name(services->blame, span_of(instance->name), span_of(route->text));
    else if (err == ERR_EXISTS)
        instance_fail(instance, 0, "route %s: plugin %s has %s %s already", route->text,
                      other->owner, other->method, other->pattern);
    else
        instance_fail(instance, 0,
                      "route %s: expected a method, and segments that are exact, :name or, as the "
                      "last, *name",
                      route->text);
    return err;
}

weft_status abi_route(weft_host *host, const char *method, const char *pattern, weft_handler *fn,
                      void *self, const weft_route_options *given)
{
    struct instance *instance = abi_init_of(host, "route");
    struct abi_route *made;
    weft_route_options options;

    if (instance == NULL)
        return WEFT_E_STATE;
    if (method == NULL || pattern == NULL || fn == NULL) {
        instance_fail(instance, 0, "a route without method, pattern or handler");
        return WEFT_E_INVALID;
    }
    if (!abi_take_options(&options, sizeof options, given) ||
        (options.flags & ~(WEFT_ROUTE_FINISH | WEFT_ROUTE_STREAM | WEFT_ROUTE_VITAL)) != 0) {
        instance_fail(instance, 0, "route %s %s: options that this host does not know", method,
                      pattern);
        return WEFT_E_UNSUPPORTED;
    }
    made = arena_alloc(&instance->arena, sizeof *made);
    *made = (struct abi_route){.instance = instance, .fn = fn, .self = self};
    return add_route(made, method, pattern, &options) == ERR_OK ? WEFT_OK : WEFT_E_INVALID;
}

/* The keys of a plugin's section that are not its own. */
static bool is_hosts_key(const char *key)
{
    return strcmp(key, "path") == 0 || strcmp(key, "mount") == 0 || strcmp(key, "required") == 0 ||
           strncmp(key, "host_", 5) == 0;
}

/* The instance, where `key` may be asked for; NULL: said why not, with `*status`. */
static struct instance *ask(weft_host *host, const char *key, const char *call, weft_status *status)
{
    struct instance *instance = abi_init_of(host, call);

    *status = WEFT_E_STATE;
    if (instance == NULL)
        return NULL;
    *status = WEFT_E_INVALID;
    if (key != NULL && !is_hosts_key(key))
        return instance;
    instance_fail(instance, 0, "setting %s: the name of a plugin's own key was expected",
                  key != NULL ? key : "(null)");
    return NULL;
}

/* Tells who listens what is asked for. True: somebody does. */
static bool tell(const struct instance *instance, const char *key, const char *expected,
                 const char *fallback)
{
    const struct plugin_watch *watch = abi_services(instance->abi)->watch;

    if (watch != NULL)
        watch->asked(watch->data, key, expected, fallback);
    return watch != NULL;
}

weft_status abi_setting(weft_host *host, const char *key, const char *fallback, weft_str *value)
{
    weft_status status;
    struct instance *instance = ask(host, key, "setting", &status);
    const struct ini_entry *entry;

    if (instance == NULL)
        return status;
    entry = ini_entry(instance->section, key);
    if (tell(instance, key, "text", fallback) && fallback == NULL)
        fallback = "";
    if (entry == NULL && fallback == NULL) {
        instance_fail(instance, 0, "the key '%s' is missing, and has no default", key);
        return WEFT_E_INVALID;
    }
    *value =
        abi_str(arena_copy(&instance->arena, span_of(entry != NULL ? entry->value : fallback)));
    return WEFT_OK;
}

weft_status abi_setting_int(weft_host *host, const char *key, int64_t min, int64_t max,
                            int64_t fallback, int64_t *value)
{
    weft_status status;
    struct instance *instance = ask(host, key, "setting_int", &status);
    char expected[80], text[24];
    const struct ini_entry *entry;
    int64_t number = fallback;

    if (instance == NULL)
        return status;
    snprintf(expected, sizeof expected, "a whole number from %lld to %lld", (long long)min,
             (long long)max);
    snprintf(text, sizeof text, "%lld", (long long)fallback);
    tell(instance, key, expected, text);
    entry = ini_entry(instance->section, key);
    if (entry != NULL &&
        (!number_int(span_of(entry->value), &number) || number < min || number > max)) {
        instance_fail(instance, entry->line, "%s = %s: expected %s", key, entry->value, expected);
        return WEFT_E_INVALID;
    }
    *value = number;
    return WEFT_OK;
}

weft_status abi_setting_bool(weft_host *host, const char *key, uint32_t fallback, uint32_t *value)
{
    static const char *const words[] = {"off", "on", "no", "yes"};
    weft_status status;
    struct instance *instance = ask(host, key, "setting_bool", &status);
    const struct ini_entry *entry;
    uint32_t found = fallback != 0;

    if (instance == NULL)
        return status;
    tell(instance, key, "on, off, yes or no", words[found]);
    entry = ini_entry(instance->section, key);
    if (entry != NULL) {
        for (found = 0; found < 4 && strcmp(entry->value, words[found]) != 0;)
            found++;
        if (found == 4) {
            instance_fail(instance, entry->line, "%s = %s: expected on, off, yes or no", key,
                          entry->value);
            return WEFT_E_INVALID;
        }
        found &= 1;
    }
    *value = found;
    return WEFT_OK;
}

weft_str abi_instance(weft_host *host)
{
    const struct instance *instance = abi_init_of(host, "instance");

    return abi_str(instance != NULL ? span_of(instance->name) : (struct span){0});
}

static weft_status refuse_shared(struct instance *instance, const char *name, size_t bytes,
                                 enum err err)
{
    if (err == ERR_INVALID)
        instance_fail(instance, 0, "shared memory: a name of 1 to 63 bytes and a size expected");
    else
        instance_fail(instance, 0, "shared memory '%s', %zu bytes: %s", name, bytes,
                      err == ERR_TOO_BIG ? "more than [server] shared_memory leaves"
                                         : "a plugin has overwritten the list of what is shared");
    return err == ERR_TOO_BIG ? WEFT_E_OVERLOAD : abi_status(err);
}

static weft_status share_with_nobody(struct instance *instance, size_t bytes, void **memory)
{
    *memory = arena_alloc(&instance->arena, bytes);
    return WEFT_OK;
}

weft_status abi_shared(weft_host *host, const char *name, size_t bytes, void **memory)
{
    struct instance *instance = abi_init_of(host, "shared");
    const struct plugin_services *services;
    enum err err = ERR_INVALID;

    if (memory != NULL)
        *memory = NULL;
    if (instance == NULL)
        return WEFT_E_STATE;
    services = abi_services(instance->abi);
    if (name != NULL && memory != NULL && services->shared == NULL)
        return share_with_nobody(instance, bytes, memory);
    if (name != NULL && memory != NULL)
        err = services->shared(services->data, name, bytes, memory);
    return err == ERR_OK ? WEFT_OK : refuse_shared(instance, name, bytes, err);
}
