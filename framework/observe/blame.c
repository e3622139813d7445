/* observe/blame.c - who is to blame: a page in which a worker notes whose code it runs. */
#include "observe/blame.h"
#include "base/log.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

struct blame *blame_create(void)
{
    struct blame *page =
        mmap(NULL, sizeof(*page), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    if (page == MAP_FAILED) {
        log_error("no memory for a page shared with a worker: %s", strerror(errno));
        abort();
    }
    page->count = 1;
    return page;
}

void blame_destroy(struct blame *page)
{
    if (page != NULL)
        CHECK(munmap(page, sizeof(*page)) == 0);
}

void blame_reset(struct blame *page)
{
    if (page == NULL)
        return;
    /* Whole pages are dropped instead of written: what the last worker did not name stays free of
     * charge. Shared memory keeps its bytes under MADV_DONTNEED, so it must be MADV_REMOVE. */
    if (madvise(page, sizeof(*page), MADV_REMOVE) != 0)
        memset(page, 0, sizeof(*page));
    page->count = 1;
}

static void copy_name(char *to, size_t size, struct span from)
{
    size_t len = from.len < size - 1 ? from.len : size - 1;

    if (len > 0)
        memcpy(to, from.ptr, len);
    to[len] = '\0';
}

uint32_t blame_name(struct blame *page, struct span plugin, struct span route)
{
    bool is_last;
    uint32_t index;

    if (page == NULL)
        return BLAME_HOST;
    index = page->count;
    CHECK(index >= 1 && index <= BLAME_NAMES_MAX);
    if (index == BLAME_NAMES_MAX)
        return BLAME_NAMES_MAX - 1;
    is_last = index == BLAME_NAMES_MAX - 1;
    copy_name(page->names[index].plugin, BLAME_PLUGIN_SIZE, is_last ? SPAN("many") : plugin);
    copy_name(page->names[index].route, BLAME_ROUTE_SIZE,
              is_last ? SPAN("one of too many to note") : route);
    page->count = index + 1;
    return index;
}

void blame_request(struct blame *page, uint32_t index, uint32_t status, uint64_t us)
{
    struct blame_tally *tally;

    if (page == NULL)
        return;
    CHECK(index < BLAME_NAMES_MAX);
    tally = &page->names[index].tally;
    histogram_add(&tally->latency, us);
    if (status >= 100 && status < 400)
        return;
    tally->failed += status >= 500;
    tally->refused += status >= 400 && status < 499;
    tally->gone += status < 100 || status == 499;
}

static void read_name(const struct blame *page, uint32_t index, struct blame_culprit *culprit)
{
    if (index == BLAME_HOST || index >= BLAME_NAMES_MAX)
        return;
    /* Without trust in a NUL: strnlen of what was copied, which nobody changes any more. */
    memcpy(culprit->plugin, page->names[index].plugin, BLAME_PLUGIN_SIZE - 1);
    memcpy(culprit->route, page->names[index].route, BLAME_ROUTE_SIZE - 1);
}

void blame_read(const struct blame *page, struct blame_culprit *culprit)
{
    uint32_t index;

    CHECK(culprit != NULL);
    *culprit = (struct blame_culprit){.request = 0};
    if (page == NULL)
        return;
    index = __atomic_load_n(&page->thread_index, __ATOMIC_RELAXED);
    culprit->request = __atomic_load_n(&page->thread_request, __ATOMIC_RELAXED);
    if (index == BLAME_HOST) {
        culprit->request = __atomic_load_n(&page->request, __ATOMIC_RELAXED);
        index = __atomic_load_n(&page->index, __ATOMIC_RELAXED);
    }
    read_name(page, index, culprit);
}

void blame_read_last(const struct blame *page, struct blame_culprit *culprit)
{
    blame_read(page, culprit);
    if (page == NULL || culprit->plugin[0] != '\0')
        return;
    read_name(page, __atomic_load_n(&page->last_index, __ATOMIC_RELAXED), culprit);
    culprit->request = __atomic_load_n(&page->last_request, __ATOMIC_RELAXED);
    culprit->is_past = culprit->plugin[0] != '\0';
}

size_t blame_describe(const struct blame *page, char *text, size_t size)
{
    char plugin[4 * BLAME_PLUGIN_SIZE + 3];
    char route[4 * BLAME_ROUTE_SIZE + 3];
    struct blame_culprit culprit;
    char request[17] = "-";
    int len;

    CHECK(text != NULL);
    CHECK(size > 0);
    blame_read(page, &culprit);
    if (culprit.request != 0)
        snprintf(request, sizeof(request), "%016llx", (unsigned long long)culprit.request);
    log_escape(plugin, sizeof(plugin), span_of(culprit.plugin[0] != '\0' ? culprit.plugin : "-"),
               false);
    log_escape(route, sizeof(route), span_of(culprit.route[0] != '\0' ? culprit.route : "-"),
               false);
    len = snprintf(text, size, "plugin=%s route=%s request=%s", plugin, route, request);
    CHECK(len > 0);
    return (size_t)len < size ? (size_t)len : size - 1;
}
