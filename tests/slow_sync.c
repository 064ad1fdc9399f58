/* A disk that syncs slowly when it is told to: preloaded by slow_sync.py.
 *
 * The file $SLOW_SYNC holds a 64-bit number of nanoseconds that fsync and fdatasync take longer.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static const volatile int64_t *delay;

__attribute__((constructor)) static void open_delay(void)
{
    const char *path = getenv("SLOW_SYNC");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    void *mapped =
        file < 0 ? MAP_FAILED : mmap(NULL, sizeof *delay, PROT_READ, MAP_SHARED, file, 0);
    if (mapped != MAP_FAILED)
        delay = mapped;
    if (file >= 0)
        close(file);
}

static void wait_for_disk(void)
{
    int64_t nanoseconds = delay ? *delay : 0;
    struct timespec span = {nanoseconds / 1000000000, nanoseconds % 1000000000};
    if (nanoseconds > 0)
        nanosleep(&span, NULL);
}

int fdatasync(int file)
{
    wait_for_disk();
    return (int)syscall(SYS_fdatasync, file);
}

int fsync(int file)
{
    wait_for_disk();
    return (int)syscall(SYS_fsync, file);
}
