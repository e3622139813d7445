/* http/reasons.c - how often requests ended otherwise than well, by reason. */
#include "http/reasons.h"
#include <stdio.h>
#include <string.h>

void http_reasons_add(struct http_reasons *reasons, const char *name)
{
    struct http_reason *last = &reasons->at[HTTP_REASONS_MAX - 1];

    for (struct http_reason *at = reasons->at; at < last; at++) {
        if (at->name[0] == '\0')
            (void)snprintf(at->name, sizeof at->name, "%s", name);
        else if (strncmp(at->name, name, sizeof at->name - 1) != 0)
            continue;
        at->count++;
        return;
    }
    (void)snprintf(last->name, sizeof last->name, "other");
    last->count++;
}
