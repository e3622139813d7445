"""What the system tests stand on: the host as a process, a database, a scripted upstream, a raw client."""
