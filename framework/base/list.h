/* base/list.h - an intrusive doubly linked list.
 *
 * Memory: a list owns nothing; what is in it embeds its `struct list` link. A link that is in no
 *         list points at itself, so list_remove() may be called on it again and again.
 */
#ifndef WEFT_BASE_LIST_H
#define WEFT_BASE_LIST_H

#include "base/check.h"
#include <stdbool.h>
#include <stddef.h>

/* A list, or a link in one. A zeroed link is in no list; a list must be made by list_init(). */
struct list {
    struct list *next; /* the first, or the next; itself: none */
    struct list *prev; /* the last, or the one before; itself: none */
};

/* Makes an empty list, or a link that is in no list. */
static inline void list_init(struct list *list)
{
    list->next = list->prev = list;
}

/* Is nothing in it? */
static inline bool list_is_empty(const struct list *list)
{
    return list->next == list;
}

/* Puts `link`, which is in no list, at the end. */
static inline void list_append(struct list *list, struct list *link)
{
    CHECK(link->next == link || link->next == NULL);
    link->prev = list->prev;
    link->next = list;
    list->prev->next = link;
    list->prev = link;
}

/* Puts `link`, which is in no list, at the front. */
static inline void list_prepend(struct list *list, struct list *link)
{
    list_append(list->next, link);
}

/* Takes `link` out of its list; it is in none afterwards. Also fine for one that is in none. */
static inline void list_remove(struct list *link)
{
    if (link->next == NULL)
        return;
    link->prev->next = link->next;
    link->next->prev = link->prev;
    list_init(link);
}

/* The first link, or NULL. */
static inline struct list *list_first(const struct list *list)
{
    return list_is_empty(list) ? NULL : list->next;
}

/* The last link, or NULL. */
static inline struct list *list_last(const struct list *list)
{
    return list_is_empty(list) ? NULL : list->prev;
}

/* Moves all of `from` behind the end of `to`, which is another list; `from` is empty afterwards. */
static inline void list_move_all(struct list *to, struct list *from)
{
    if (list_is_empty(from))
        return;
    from->next->prev = to->prev;
    to->prev->next = from->next;
    from->prev->next = to;
    to->prev = from->prev;
    list_init(from);
}

/* Each link in turn, as `at`; the body may remove the link that it is given, and no other. */
#define LIST_EACH(head, at)                                                   \
    for (struct list *at = (head)->next, *at##_next = at->next; at != (head); \
         at = at##_next, at##_next = at->next)

#endif
