/* server/desk.c - answers `weft status`. */
#include "server/desk.h"
#include "base/check.h"
#include "server/control.h"
#include "server/reload.h"
#include "server/status.h"
#include "server/watch.h"
#include <string.h>

void desk_init(struct desk *desk)
{
    CHECK(desk->fresh != NULL);
    for (uint32_t i = 0; i < DESK_FORMS; i++)
        desk->forms[i].desk = desk;
}

void desk_deinit(struct desk *desk)
{
    for (uint32_t i = 0; i < DESK_FORMS; i++)
        if (desk->forms[i].is_waiting)
            fresh_cancel(&desk->forms[i].fresh);
}

/* A line at a time, without its newline; the last one has none behind it. */
static void say(struct control_asker *asker, void *data)
{
    struct span rest = *(const struct span *)data;

    while (rest.len > 0) {
        const char *end = memchr(rest.ptr, '\n', rest.len);
        size_t len = end != NULL ? (size_t)(end - rest.ptr) : rest.len;

        control_say(asker, "%.*s", (int)len, rest.ptr);
        len += end != NULL;
        rest = (struct span){rest.ptr + len, rest.len - len};
    }
    control_end(asker, 0);
}

static void on_fresh(struct fresh *fresh)
{
    struct desk_form *form = CONTAINER_OF(fresh, struct desk_form, fresh);
    struct desk *desk = form->desk;
    uint32_t index = (uint32_t)(form - desk->forms);
    const struct generation *current = desk->reload->current;
    struct status status = {.slots = current != NULL ? current->settings->workers : 0,
                            .generation = current != NULL ? current->number : 0,
                            .history = &desk->reload->history,
                            .with_requests = (index & DESK_REQUESTS) != 0};
    struct buf out;
    struct span all;

    form->is_waiting = false;
    buf_init(&out, NULL);
    status_gather(&status, desk->watch);
    if ((index & DESK_JSON) != 0)
        status_json(&status, &out);
    else
        status_text(&status, &out);
    status_release(&status);
    all = buf_span(&out);
    while (all.len > 0 && all.ptr[all.len - 1] == '\n')
        all.len--;
    control_each(desk->control, desk->tickets + index, say, &all);
    buf_release(&out);
}

void desk_status(struct desk *desk, struct control_asker *asker, const char *rest)
{
    uint32_t index = 0;

    index |= strstr(rest, "--json") != NULL ? DESK_JSON : 0;
    index |= strstr(rest, "--requests") != NULL ? DESK_REQUESTS : 0;
    control_wait(asker, desk->tickets + index);
    if (desk->forms[index].is_waiting)
        return;
    desk->forms[index].is_waiting = true;
    fresh_start(desk->fresh, &desk->forms[index].fresh, on_fresh);
}
