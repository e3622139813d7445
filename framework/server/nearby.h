/* server/nearby.h - Unix sockets by a path of any length: sun_path has room for 107 bytes, a path
 * of the system for 4095.
 *
 * Loop:   of none; connecting waits at most 5 s, where the other side's line is full.
 * Memory: plain descriptors, the caller's.
 */
#ifndef WEFT_SERVER_NEARBY_H
#define WEFT_SERVER_NEARBY_H

/* A listening socket at `path`, mode 0600, CLOEXEC and NONBLOCK. -1 with errno. */
int nearby_listen(const char *path);

/* A connected one, CLOEXEC, that blocks. -1 with errno: ENOENT or ECONNREFUSED where nobody
 * listens. */
int nearby_connect(const char *path);

#endif
