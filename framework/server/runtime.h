/* server/runtime.h - the host's own folder: pid file and copies of the plugins.
 *
 * <runtime_dir>/<hash of the ini's path>/ holds `weft.pid`, locked while the host lives, the
 * control socket, and a folder for each generation. A folder that another living host has is left
 * alone: the next name (-2, -3, ...) is taken.
 * Memory: embedded; the master's.
 */
#ifndef WEFT_SERVER_RUNTIME_H
#define WEFT_SERVER_RUNTIME_H

#include "base/error.h"
#include "settings/ini.h"
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

/* The control socket's name in the folder. */
#define RUNTIME_CONTROL "control.sock"

struct runtime {
    char path[PATH_MAX];       /* the host's folder */
    char generation[PATH_MAX]; /* the folder of the first generation, below it */
    int lock_fd;               /* of the pid file; -1: none */
    bool is_lent;              /* another process has it, too: it stays */
};

/* Makes and locks the folder, with that of `generation` empty in it. `configured` is [server]
 * runtime_dir, "" to choose. On failure `problem` says which folder and why. */
enum err runtime_open(struct runtime *runtime, const char *configured, const char *ini_path,
                      uint32_t generation, char problem[INI_PROBLEM_SIZE])
    __attribute__((warn_unused_result));

/* Takes over the folder `path`, which another process of this host made, with the descriptor that
 * locks it, and makes that of `generation` in it. Both have it until runtime_own(). */
enum err runtime_inherit(struct runtime *runtime, const char *path, int lock_fd,
                         uint32_t generation, char problem[INI_PROBLEM_SIZE])
    __attribute__((warn_unused_result));

/* Is `folder` where a host with these settings may be? The other way round, commands would not find
 * it. */
bool runtime_may_be(const char *configured, const char *ini_path, const char *folder);

/* It is this process's, and the pid file says so; or, without `is_ours`, another one's, and is left
 * as it is by runtime_close(). */
void runtime_own(struct runtime *runtime, bool is_ours);

/* The folder of generation `number`, whether it exists or not. */
void runtime_name_generation(const struct runtime *runtime, uint32_t number, char path[PATH_MAX]);

/* Makes it, empty. On failure `problem` says which folder and why. */
enum err runtime_make_generation(const struct runtime *runtime, uint32_t number,
                                 char problem[INI_PROBLEM_SIZE])
    __attribute__((warn_unused_result));

/* Removes it and all in it; none there is fine. */
void runtime_remove_generation(const struct runtime *runtime, uint32_t number);

/* Every folder in which a host with these settings may have its control socket, the likeliest
 * first, whether it exists or not, until `visit` returns true. Makes nothing. Returns what the last
 * visit() returned. */
bool runtime_each(const char *configured, const char *ini_path,
                  bool (*visit)(void *data, const char *folder), void *data);

/* Removes the folder and all in it, unless it is another's. Twice, and zeroed with lock_fd -1, is
 * fine. */
void runtime_close(struct runtime *runtime);

#endif
