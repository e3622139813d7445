/* task/group.c - one op for several.
 *
 *   PENDING ──▶ an ALL's first error: siblings canceled, and still PENDING until all were told of
 *      ├──────▶ SETTLED: an ANY's first success, a RACE's first child (losers are let go and
 *      │        canceled), or the last child
 *      └──────▶ canceled: children are let go and canceled
 *
 * A member is linked to its child while the child may still tell something; afterwards the child is
 * not touched again, since its user may have released it.
 */
#include "task/group.h"
#include "base/check.h"

struct group;

struct member {
    struct op_watch watch; /* linked: the child has not told yet */
    struct op *child;      /* NULL: told, or let go */
    struct group *group;
    bool is_ours; /* we canceled it: that it failed is no news */
};

struct group {
    struct op op;
    enum group_kind kind;
    uint32_t depth;    /* of groups in groups */
    uint32_t count;    /* members */
    uint32_t open;     /* members that have not told yet */
    int32_t first;     /* the member whose outcome is ours so far; -1: none */
    int32_t winner;    /* the same once it is decided */
    enum err err;      /* of `first` */
    uint64_t child;    /* its handle, or its child's, where it is a group; 0: none */
    bool has_won;      /* an ANY's success, or a RACE's first */
    bool has_given_up; /* an ALL has canceled the siblings */
    struct member members[];
};

static void withdraw(struct op *op);

static const struct op_kind group_kind = {.name = "group", .account = -1, .withdraw = withdraw};

static struct group *group_of(struct op *op)
{
    return CONTAINER_OF(op, struct group, op);
}

bool op_is_group(const struct op *op)
{
    CHECK_OBJ(op, OP_MAGIC);
    return op->kind == &group_kind;
}

int32_t group_winner(const struct op *op)
{
    return op_is_group(op) ? CONTAINER_OF(op, const struct group, op)->winner : -1;
}

uint64_t group_child(const struct op *op)
{
    return op_is_group(op) ? CONTAINER_OF(op, const struct group, op)->child : 0;
}

/* Cancels the children that are pending. Each is marked before the first is touched: the same op
 * may be there twice. A child may cancel the group in turn (a hedge's second op may be a group with
 * the hedge in it), which lets go of them all. */
static void cancel_pending(struct group *group)
{
    for (uint32_t i = 0; i < group->count; i++) {
        struct member *member = &group->members[i];

        member->is_ours = member->child != NULL && member->child->state == OP_PENDING;
    }
    for (uint32_t i = 0; i < group->count; i++) {
        if (group->members[i].is_ours && group->members[i].child != NULL)
            op_cancel(group->members[i].child);
    }
}

/* Nothing more is heard of the children, who are canceled. */
static void let_go(struct group *group)
{
    for (uint32_t i = 0; i < group->count; i++)
        list_remove(&group->members[i].watch.link);
    cancel_pending(group);
    for (uint32_t i = 0; i < group->count; i++)
        group->members[i].child = NULL;
}

static void withdraw(struct op *op)
{
    let_go(group_of(op));
    op_retire(op);
}

static void note(struct group *group, uint32_t index, const struct op *child)
{
    enum err err = child->status;
    bool is_first = group->first < 0 || (int32_t)index < group->first;

    if (group->has_won || group->members[index].is_ours)
        return;
    if (err == ERR_OK || group->kind == GROUP_RACE) {
        group->has_won = group->kind != GROUP_ALL;
        is_first = group->has_won;
    }
    if (!is_first)
        return;
    group->first = (int32_t)index;
    group->err = err;
    group->child = op_is_group(child) ? group_child(child) : child->handle;
    op_explain(&group->op, child->error);
}

/* Settled before the losers are canceled, so that none of them can cancel it any more. */
static void settle(struct group *group)
{
    group->winner = group->first;
    op_settle(&group->op, group->err, NULL);
    let_go(group);
    op_retire(&group->op);
}

/* What follows from what was noted so far. */
static void decide(struct group *group)
{
    bool must_give_up = group->kind == GROUP_ALL && group->first >= 0 && !group->has_given_up &&
                        (group->op.scope->flags & SCOPE_SUPERVISE) == 0;

    if (group->has_won || group->open == 0) {
        settle(group);
    } else if (must_give_up) {
        group->has_given_up = true;
        cancel_pending(group);
    }
}

static void on_child(struct op *child, void *data)
{
    struct member *member = data;
    struct group *group = member->group;

    CHECK(group->op.state == OP_PENDING);
    CHECK(group->open > 0);
    group->open--;
    member->child = NULL;
    note(group, (uint32_t)(member - group->members), child);
    decide(group);
}

/* ERR_OK: they can be a group; else `*why` not. */
static enum err find_fault(const struct scope *scope, struct op *const *children, uint32_t count,
                           uint32_t *depth, const char **why)
{
    *depth = 1;
    *why = "too many operations for a group";
    if (count > GROUP_CHILDREN_MAX)
        return ERR_INVALID;
    *why = "an operation of another request";
    for (uint32_t i = 0; i < count; i++) {
        CHECK_OBJ(children[i], OP_MAGIC);
        if (children[i]->scope->root != scope->root)
            return ERR_STATE;
        if (op_is_group(children[i]) && group_of(children[i])->depth >= *depth)
            *depth = group_of(children[i])->depth + 1;
    }
    *why = "groups in groups too deep";
    return *depth > GROUP_DEPTH_MAX ? ERR_INVALID : ERR_OK;
}

struct op *group_start(struct scope *scope, enum group_kind kind, struct op *const *children,
                       uint32_t count)
{
    struct group *group;
    const char *why;
    uint32_t depth;
    enum err err;

    CHECK_OBJ(scope, SCOPE_MAGIC);
    err = find_fault(scope, children, count, &depth, &why);
    if (err == ERR_OK && count == 0 && kind != GROUP_ALL) {
        why = "the first of no operations";
        err = ERR_INVALID;
    }
    if (err != ERR_OK)
        return op_failed(scope, err, NULL, span_of(why));
    group = scope_alloc(scope, sizeof *group + count * sizeof group->members[0]);
    group->kind = kind;
    group->depth = depth;
    group->count = count;
    group->first = group->winner = -1;
    if (!op_init(&group->op, scope, &group_kind))
        return &group->op;
    for (uint32_t i = 0; i < count; i++) {
        struct member *member = &group->members[i];

        *member = (struct member){.group = group, .watch = {.fn = on_child, .data = member}};
        if (children[i]->state != OP_PENDING) {
            note(group, i, children[i]);
            continue;
        }
        member->child = children[i];
        group->open++;
        op_watch(children[i], &member->watch);
    }
    decide(group);
    return &group->op;
}
