/* plugin/instance.c - the life of one configured plugin. */
#include "plugin/instance.h"
#include "base/check.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/slots.h"
#include "http/router.h"
#include "observe/blame.h"
#include "plugin/abi.h"
#include "plugin/loader.h"
#include "task/scope.h"
#include <stdio.h>
#include <string.h>

static const struct {
    const char *name;
    unsigned next; /* the states that may follow, one bit each */
} states[] = {
    [INSTANCE_NEW] = {"new", 1u << INSTANCE_LOADED},
    [INSTANCE_LOADED] = {"loaded", 1u << INSTANCE_READY},
    [INSTANCE_READY] = {"ready", 1u << INSTANCE_STARTED | 1u << INSTANCE_STOPPED},
    [INSTANCE_STARTED] = {"started", 1u << INSTANCE_STOPPING | 1u << INSTANCE_STOPPED},
    [INSTANCE_STOPPING] = {"stopping", 1u << INSTANCE_STOPPED},
    [INSTANCE_STOPPED] = {"stopped", 0},
};

static void move(struct instance *instance, enum instance_state state)
{
    CHECK((states[instance->state].next & 1u << state) != 0);
    log_trace("plugin %s: %s -> %s", instance->name, states[instance->state].name,
              states[state].name);
    instance->state = state;
}

static const struct plugin_services *services_of(const struct instance *instance)
{
    return abi_services(instance->abi);
}

void instance_fail(struct instance *instance, uint32_t line, const char *format, ...)
{
    char place[INI_PLACE_SIZE];
    va_list args;
    int len;

    CHECK_OBJ(instance, INSTANCE_MAGIC);
    ini_place(services_of(instance)->file, line != 0 ? line : instance->section->line, place);
    if (instance->problem[0] != '\0')
        return;
    len = snprintf(instance->problem, INI_PROBLEM_SIZE, "%s: [plugin.%s]: ", place, instance->name);
    va_start(args, format);
    if (len < INI_PROBLEM_SIZE)
        vsnprintf(instance->problem + len, (size_t)(INI_PROBLEM_SIZE - len), format, args);
    va_end(args);
}

static enum err hand_over(struct instance *instance, enum err err, char problem[INI_PROBLEM_SIZE])
{
    if (err != ERR_OK)
        memcpy(problem, instance->problem, INI_PROBLEM_SIZE);
    return err;
}

uint64_t instance_handle(struct instance *instance, struct slots *slots, void *object)
{
    struct instance_handle *made;

    CHECK_OBJ(instance, INSTANCE_MAGIC);
    made = arena_alloc(&instance->arena, sizeof *made);
    *made = (struct instance_handle){
        .next = instance->handles, .slots = slots, .handle = slots_add(slots, object)};
    instance->handles = made;
    return made->handle;
}

/* Birth */

/* A mount goes before a pattern: "" or "/then", not "/" or "/then/". */
static bool is_mount(const char *mount)
{
    size_t len = strlen(mount);

    return len == 0 || (len > 1 && mount[0] == '/' && mount[len - 1] != '/' &&
                        strchr(mount, ':') == NULL && strchr(mount, '*') == NULL);
}

/* Where the plugin's file lies: absolute, on the heap. */
static char *find_file(const struct plugin_services *services, const char *path)
{
    return strchr(path, '/') != NULL ? ini_path(services->file, path)
                                     : mem_format("%s/%s", services->plugin_dir, path);
}

static enum err read_options(struct instance *instance, char problem[INI_PROBLEM_SIZE])
{
    const struct plugin_services *services = services_of(instance);
    enum err err = field_bind(&plugin_option_table, services->file, instance->section,
                              &instance->options, problem);
    const struct ini_entry *mount;

    if (err != ERR_OK)
        return err;
    if (!is_mount(instance->options.mount)) {
        mount = ini_entry(instance->section, "mount");
        instance_fail(instance, mount != NULL ? mount->line : 0,
                      "mount = %s: expected nothing, or a path such as /then, without a slash at "
                      "its end",
                      instance->options.mount);
        return hand_over(instance, ERR_SYNTAX, problem);
    }
    instance->file = find_file(services, instance->options.path);
    return ERR_OK;
}

struct instance *instance_create(struct abi *abi, struct ini_section *section,
                                 struct arena_pool *arenas, char problem[INI_PROBLEM_SIZE])
{
    struct instance *instance = mem_alloc(sizeof *instance);

    CHECK(abi != NULL);
    CHECK(section != NULL);
    instance->magic = INSTANCE_MAGIC;
    instance->abi = abi;
    instance->section = section;
    instance->name = section->name;
    arena_init(&instance->arena, arenas);
    if (read_options(instance, problem) != ERR_OK) {
        instance_destroy(instance);
        return NULL;
    }
    return instance;
}

/* Life */

static enum err load_code(struct instance *instance)
{
    const struct plugin_services *services = services_of(instance);
    const struct loader_request request = {
        .file = instance->file,
        .copy_dir = services->copy_dir,
        .instance = instance->name,
        .symbol = ABI_SYMBOL,
        .major = ABI_MAJOR,
        .minor = ABI_MINOR,
        .writable_by_all = services->writable_by_all,
    };
    char problem[INI_PROBLEM_SIZE];
    const void *descriptor = services->linked;
    enum err err = descriptor == NULL ? loader_load(&request, &descriptor, problem) : ERR_OK;

    if (err != ERR_OK)
        instance_fail(instance, 0, "%s", problem);
    else
        err = abi_bind(instance, descriptor);
    return err;
}

enum err instance_load(struct instance *instance, char problem[INI_PROBLEM_SIZE])
{
    enum err err;

    CHECK_OBJ(instance, INSTANCE_MAGIC);
    CHECK(instance->state == INSTANCE_NEW);
    err = load_code(instance);
    if (err != ERR_OK)
        return hand_over(instance, err, problem);
    move(instance, INSTANCE_LOADED);
    err = abi_init(instance);
    if (err != ERR_OK) {
        router_remove_owner(services_of(instance)->router, instance->name);
        return hand_over(instance, err, problem);
    }
    move(instance, INSTANCE_READY);
    return ERR_OK;
}

enum err instance_start(struct instance *instance, char problem[INI_PROBLEM_SIZE])
{
    enum err err;

    CHECK_OBJ(instance, INSTANCE_MAGIC);
    CHECK(instance->state == INSTANCE_READY);
    err = abi_start(instance);
    if (err != ERR_OK)
        return hand_over(instance, err, problem);
    move(instance, INSTANCE_STARTED);
    return ERR_OK;
}

void instance_stop(struct instance *instance)
{
    CHECK_OBJ(instance, INSTANCE_MAGIC);
    if (instance->state != INSTANCE_READY && instance->state != INSTANCE_STARTED)
        return;
    abi_inbox_stop(instance);
    if (instance->background == NULL) {
        move(instance, INSTANCE_STOPPED);
        return;
    }
    if (instance->state == INSTANCE_READY) /* a start() that failed has a scope, too */
        move(instance, INSTANCE_STARTED);
    move(instance, INSTANCE_STOPPING);
    scope_finish(instance->background, SCOPE_SHUTDOWN);
}

void instance_background_ended(struct instance *instance)
{
    CHECK_OBJ(instance, INSTANCE_MAGIC);
    CHECK(instance->state == INSTANCE_STOPPING);
    instance->background = NULL;
    move(instance, INSTANCE_STOPPED);
}

bool instance_is_stopped(const struct instance *instance)
{
    CHECK_OBJ(instance, INSTANCE_MAGIC);
    return instance->background == NULL;
}

void instance_destroy(struct instance *instance)
{
    if (instance == NULL)
        return;
    CHECK_OBJ(instance, INSTANCE_MAGIC);
    CHECK(instance->background == NULL);
    if (instance->state >= INSTANCE_READY)
        abi_fini(instance);
    abi_inbox_destroy(instance);
    router_remove_owner(services_of(instance)->router, instance->name);
    for (struct instance_handle *at = instance->handles; at != NULL; at = at->next)
        slots_remove(at->slots, at->handle);
    arena_deinit(&instance->arena);
    field_clear(&plugin_option_table, &instance->options);
    mem_free(instance->file);
    instance->magic = 0;
    mem_free(instance);
}
