/* server/changes.c - what of new settings a reload cannot bring about. */
#include "server/changes.h"
#include "base/check.h"

static void add(struct buf *keys, const char *key)
{
    if (keys->len > 0)
        buf_append(keys, SPAN(" "));
    buf_append(keys, span_of(key));
}

void changes_list(const struct settings *before, const struct settings *after, struct buf *keys)
{
    const struct server_options *old = &before->server, *new = &after->server;

    CHECK(keys != NULL);
    if (strcmp(old->runtime_dir, new->runtime_dir) != 0)
        add(keys, "runtime_dir");
    if (old->files_max != new->files_max)
        add(keys, "files_max");
    if (strcmp(old->admin, new->admin) != 0)
        add(keys, "admin");
    if (strcmp(old->control, new->control) != 0)
        add(keys, "control");
    if (old->reuseport != new->reuseport)
        add(keys, "reuseport");
    if (old->shared_memory != new->shared_memory)
        add(keys, "shared_memory");
    /* What standard error was is not known any more once a file has taken its place. */
    if (strcmp(old->error_log, new->error_log) != 0 && strcmp(new->error_log, "stderr") == 0)
        add(keys, "error_log");
}
