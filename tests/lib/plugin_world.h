/* lib/plugin_world.h - the inside of a worker without its sockets: loop, tasks, router, plugins
 * from an ini text, and an HTTP server that the test speaks to over a pair. The clock is the
 * test's.
 *
 * Loop:   the world's, turned by the test.
 * Memory: embed the world; plugin_world_deinit() fails the test where something still lives.
 */
#ifndef WEFT_TESTS_LIB_PLUGIN_WORLD_H
#define WEFT_TESTS_LIB_PLUGIN_WORLD_H

#include "http/server.h"
#include "lib/loop_driver.h"
#include "lib/temp_dir.h"
#include "observe/blame.h"
#include "plugin/plugins.h"
#include "task/fiber.h"
#include "task/tasks.h"

/* What a test sees of an answer or of the log, with its NUL; the rest is dropped. */
enum { PLUGIN_WORLD_TEXT_SIZE = 65536 };

struct plugin_world {
    struct fake_clock clock;           /* moved by the test */
    struct loop *loop;                 /* on that clock */
    struct tasks *tasks;               /* on that loop */
    struct helpers *helpers;           /* for offloaded work, on that loop */
    struct blame *blame;               /* the page that a master would read */
    struct router *router;             /* every plugin's routes */
    struct ini_file *file;             /* parsed; its path is "server.ini" */
    struct plugins *plugins;           /* those that were loaded */
    struct http_options http_options;  /* the defaults */
    struct http_server *http;          /* NULL until plugin_world_serve() */
    struct temp_dir dir;               /* copies of plugins, and the log */
    int log_fd;                        /* where the log goes */
    char problem[INI_PROBLEM_SIZE];    /* of the last load or start */
    char text[PLUGIN_WORLD_TEXT_SIZE]; /* the last answer */
    char log[PLUGIN_WORLD_TEXT_SIZE];  /* see plugin_world_log() */
};

/* Makes all but the server, without a plugin. `ini` is the text of server.ini; `plugin_dir` is
 * where plugins are found; `fibers` may be NULL. The log's level is debug. */
void plugin_world_init(struct plugin_world *world, const char *ini, const char *plugin_dir,
                       const struct fiber_options *fibers);

/* Loads each [plugin.NAME] in order, up to the first that fails; `problem` says why then. */
enum err plugin_world_load(struct plugin_world *world);

/* Starts plugins and server. Fails the test where a plugin does not start. */
void plugin_world_serve(struct plugin_world *world);

/* Opens a connection; the test's end. */
int plugin_world_connect(struct plugin_world *world);

/* Sends a request on a connection of its own and turns, a millisecond each, until the answer has
 * ended; the answer, head and body. `target` is "GET /path" and may go on with lines of fields; a
 * body goes behind an empty line. While offloaded work is on its way, time stands still. */
const char *plugin_world_ask(struct plugin_world *world, const char *target);

/* Its body alone. */
const char *plugin_world_body(struct plugin_world *world, const char *target);

/* What was logged since the last call. */
const char *plugin_world_log(struct plugin_world *world);

/* Stops the plugins, ends the server and all else. Fails the test where a scope lives on. */
void plugin_world_deinit(struct plugin_world *world);

#endif
