/* server/rehearse.c - tries the databases and their statements before anybody is served. */
#include "server/rehearse.h"
#include "base/mem.h"
#include "loop/loop.h"
#include "pg/rehearsal.h"
#include "server/parts.h"
#include <string.h>

/* All pools' rehearsals. */
struct stage {
    FILE *warnings; /* lines for people */
    char *problem;  /* the first refusal; "": none */
    uint32_t left;  /* pools that were not told of */
};

/* One pool's. */
struct act {
    struct stage *stage; /* whose */
    const char *pool;    /* its name */
};

static void on_rehearsed(void *data, struct pg_rehearsal *rehearsal, enum err err,
                         const char *problem)
{
    const struct act *act = data;
    struct stage *stage = act->stage;

    (void)rehearsal;
    stage->left--;
    if (err == ERR_DB_DOWN)
        fprintf(stage->warnings, "pg.%s: cannot be tried: %s\n", act->pool, problem);
    else if (err != ERR_OK && stage->problem[0] == '\0')
        snprintf(stage->problem, INI_PROBLEM_SIZE, "pg.%s: %s", act->pool, problem);
}

enum err rehearse(struct parts *parts, FILE *warnings, char problem[INI_PROBLEM_SIZE])
{
    uint32_t count = parts->settings->pg_count;
    struct stage stage = {.warnings = warnings, .problem = problem, .left = count};
    struct act *acts = mem_calloc(count + 1, sizeof *acts);

    problem[0] = '\0';
    for (uint32_t i = 0; i < count; i++) {
        acts[i] = (struct act){.stage = &stage, .pool = parts->settings->pgs[i].name};
        (void)pg_rehearsal_start(parts->pools[i], on_rehearsed, &acts[i]);
    }
    while (stage.left > 0)
        loop_turn(parts->loop, UINT32_MAX);
    mem_free(acts);
    return problem[0] == '\0' ? ERR_OK : ERR_DB;
}
