/* plugin/plugins.c - a worker's plugins, in the order of the ini file. */
#include "plugin/plugins.h"
#include "base/arena.h"
#include "base/check.h"
#include "base/list.h"
#include "base/log.h"
#include "base/mem.h"
#include "plugin/abi.h"
#include "plugin/instance.h"
#include <limits.h>
#include <stddef.h>

static const struct field fields[] = {
    {
        .key = "path",
        .type = FIELD_TEXT,
        .offset = offsetof(struct plugin_options, path),
        .min = 1,
        .max = PATH_MAX,
        .help = "The plugin's file. Without a slash it lies in plugin_dir; else a relative path is "
                "relative to this file's folder.",
    },
    {
        .key = "mount",
        .type = FIELD_TEXT,
        .offset = offsetof(struct plugin_options, mount),
        .fallback = "",
        .max = 255,
        .help = "What its routes begin with, such as /then; without a slash at the end.",
    },
    {
        .key = "required",
        .type = FIELD_BOOL,
        .offset = offsetof(struct plugin_options, required),
        .fallback = "yes",
        .help = "With no, a plugin that cannot be loaded is logged and left out; else the host "
                "does not start.",
    },
};

const struct field_table plugin_option_table = {
    .kind = "plugin",
    .example = "[plugin.NAME]",
    .help = "A plugin: one section for each configured instance. Every other key is the plugin's "
            "own; keys that begin with host_ are the host's.",
    .fields = fields,
    .count = FIELD_COUNT(fields),
};

struct plugins {
    struct abi *abi;          /* what they call */
    struct arena_pool arenas; /* of the instances */
    struct list instances;    /* struct instance, the oldest first */
    uint32_t count;           /* of them */
};

static struct instance *instance_at(struct list *link)
{
    return CONTAINER_OF(link, struct instance, _link);
}

struct plugins *plugins_create(const struct plugin_services *services)
{
    struct plugins *plugins = mem_alloc(sizeof *plugins);

    CHECK(services->router != NULL);
    CHECK(services->file != NULL);
    plugins->abi = abi_create(services);
    arena_pool_init(&plugins->arenas, 0, NULL);
    list_init(&plugins->instances);
    return plugins;
}

/* Its keys are nobody's mistake: who would have asked for them is not there. */
static void mark_all_used(struct ini_section *section)
{
    for (struct ini_entry *entry = section->entries; entry != NULL; entry = entry->next)
        entry->is_used = true;
}

enum err plugins_load(struct plugins *plugins, struct ini_section *section,
                      char problem[INI_PROBLEM_SIZE])
{
    struct instance *instance;
    bool is_required;
    enum err err;

    CHECK(plugins != NULL);
    instance = instance_create(plugins->abi, section, &plugins->arenas, problem);
    if (instance == NULL)
        return ERR_SYNTAX;
    is_required = instance->options.required;
    err = instance_load(instance, problem);
    if (err == ERR_OK) {
        list_append(&plugins->instances, &instance->_link);
        plugins->count++;
        return ERR_OK;
    }
    instance_destroy(instance);
    if (is_required)
        return err;
    log_warn("%s: left out, since it is not required", problem);
    mark_all_used(section);
    return ERR_OK;
}

enum err plugins_start(struct plugins *plugins, char problem[INI_PROBLEM_SIZE])
{
    CHECK(plugins != NULL);
    LIST_EACH (&plugins->instances, link) {
        enum err err = instance_start(instance_at(link), problem);
        if (err != ERR_OK)
            return err;
    }
    return ERR_OK;
}

void plugins_stop(struct plugins *plugins)
{
    if (plugins == NULL)
        return;
    LIST_EACH (&plugins->instances, link) {
        instance_stop(instance_at(link));
    }
}

bool plugins_are_stopped(const struct plugins *plugins)
{
    if (plugins == NULL)
        return true;
    LIST_EACH (&plugins->instances, link) {
        if (!instance_is_stopped(instance_at(link)))
            return false;
    }
    return true;
}

void plugins_destroy(struct plugins *plugins)
{
    struct list *link;

    if (plugins == NULL)
        return;
    while ((link = list_last(&plugins->instances)) != NULL) {
        list_remove(link);
        instance_destroy(instance_at(link));
    }
    abi_destroy(plugins->abi);
    arena_pool_deinit(&plugins->arenas);
    mem_free(plugins);
}

uint32_t plugins_count(const struct plugins *plugins)
{
    CHECK(plugins != NULL);
    return plugins->count;
}
