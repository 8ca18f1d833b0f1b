/*
 * A fake: it reports 65,535 open files where fewer are allowed.
 *
 * Elasticsearch refuses to start where a process may open fewer. Containers of the lab may open as many as the hard
 * limit of the machine allows, which some machines can not raise. Nothing else is changed: what really is opened meets
 * the real limit.
 */
#include <sys/syscall.h>
#include <unistd.h>

enum { OPEN_FILES = 7, NEEDED = 65535 };

struct limit {
	unsigned long soft;
	unsigned long hard;
};

int getrlimit(int resource, struct limit *limit)
{
	if (syscall(SYS_prlimit64, 0, resource, 0, limit) != 0)
		return -1;
	if (resource == OPEN_FILES && limit->soft < NEEDED) {
		limit->soft = NEEDED;
		if (limit->hard < NEEDED)
			limit->hard = NEEDED;
	}
	return 0;
}

/* What programs with large files call; on this architecture it is the same. */
int getrlimit64(int resource, struct limit *limit) __attribute__((alias("getrlimit")));
