/* pg/parameters.h - what libpq is told of a server: keywords and values, from a pool's options.
 *
 * libpq takes what it is not told from the environment, or from files in somebody's home: so all
 * of that is told.
 * Loop:   of none; a helper thread may have them to itself.
 * Memory: embedded; keywords and values are copies.
 * Limits: PG_PARAMETERS_MAX keywords, which is more than libpq has.
 */
#ifndef WEFT_PG_PARAMETERS_H
#define WEFT_PG_PARAMETERS_H

#include "pg/options.h"

struct pg_conn; /* libpq's PGconn */
struct pg_hosts;

enum { PG_PARAMETERS_MAX = 96 };

/* Zeroed: none. */
struct pg_parameters {
    char *keywords[PG_PARAMETERS_MAX + 1]; /* on the heap; ended by NULL */
    char *values[PG_PARAMETERS_MAX + 1];   /* the same */
    uint32_t count;                        /* of both */
};

/* What a pool's options say of the servers that they name. */
struct pg_aim {
    bool wants_writer;  /* target_session_attrs is read-write or primary */
    bool wants_primary; /* it is primary: whatever its settings make of its transactions */
    bool is_spread;     /* any of those that only read will do: not always the same one */
};

/* Those of `options`, which were checked, with a default for all that must not come from
 * elsewhere. */
void pg_parameters_init(struct pg_parameters *parameters, const struct pg_options *options);

/* Frees them. Twice, and zeroed, is fine. */
void pg_parameters_deinit(struct pg_parameters *parameters);

/* Sets one, in place of what it was; "" removes it. */
void pg_parameters_set(struct pg_parameters *parameters, const char *keyword, const char *value);

/* The path of a file that `keyword` was given; NULL: it was not. */
const char *pg_parameters_file(const struct pg_parameters *parameters, const char *keyword);

/* The server of that connection, whatever it is now, and no other one. */
void pg_parameters_be_like(struct pg_parameters *parameters, const struct pg_conn *conn);

/* Is target_session_attrs `target`? */
bool pg_parameters_is_target(const struct pg_parameters *parameters, const char *target);

/* The servers that they name; `hosts` is to be let go of. False: `problem` says what does not
 * fit. */
bool pg_parameters_hosts(const struct pg_parameters *parameters, struct pg_hosts *hosts,
                         char problem[INI_PROBLEM_SIZE]);

/* Can libpq parse the conninfo, has all of it an effect, and do the servers fit? Else false, and
 * `problem` says why. */
bool pg_parameters_parse(const struct pg_options *options, char problem[INI_PROBLEM_SIZE]);

/* As they are in `options`, which were checked. */
struct pg_aim pg_parameters_aim(const struct pg_options *options);

/* Removes from the environment what libpq would read from it (PGHOST, PGPASSWORD, PGOPTIONS, ...),
 * so that no session gets settings by accident. Once a process, after the settings were read and
 * before any thread runs. */
void pg_forget_environment(void);

#endif
