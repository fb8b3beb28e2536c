/* Limits of control groups, read as the kernel writes them. */
#include "recipes/model/container.h"

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

/* The first number of a file; false when it is not there or says "max" (or, in version 1, a number near 2^63). */
static bool read_number(const char *folder, const char *name, double *out)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "r");
    bool ok = f && fscanf(f, "%lf", out) == 1 && *out >= 0 && *out < 1e18;
    if (f) fclose(f);
    return ok;
}

/* A line "KEY NUMBER" of memory.stat; 0 when there is none. */
static double read_stat(const char *folder, const char *key)
{
    char path[PATH_MAX], name[64];
    double value = 0, found = 0;
    snprintf(path, sizeof path, "%s/memory.stat", folder);
    FILE *f = fopen(path, "r");
    while (f && fscanf(f, "%63s %lf", name, &value) == 2)
        if (!strcmp(name, key)) found = value;
    if (f) fclose(f);
    return found;
}

static void limit_memory(ContainerLimits *l, double limit, double used, double reclaimable)
{
    double room = limit - (used > reclaimable ? used - reclaimable : 0);
    if (room < 0) room = 0;
    if (room < (double)l->memory) l->memory = (size_t)room;
}

static void limit_processors(ContainerLimits *l, double quota, double period)
{
    if (quota <= 0 || period <= 0) return;
    if (l->processors == 0 || quota / period < l->processors) l->processors = quota / period;
}

static void read_v2(ContainerLimits *l, const char *folder)
{
    double limit, used = 0, quota, period = 100000;
    static const char *const names[] = {"memory.max", "memory.high"};
    char path[PATH_MAX];
    read_number(folder, "memory.current", &used);
    for (int i = 0; i < 2; i++)
        if (read_number(folder, names[i], &limit)) limit_memory(l, limit, used, read_stat(folder, "inactive_file"));
    snprintf(path, sizeof path, "%s/cpu.max", folder);
    FILE *f = fopen(path, "r");
    if (f && fscanf(f, "%lf %lf", &quota, &period) >= 1) limit_processors(l, quota, period); /* "max": not read */
    if (f) fclose(f);
}

static void read_v1(ContainerLimits *l, const char *folder)
{
    double limit, used = 0, quota, period;
    if (read_number(folder, "memory.limit_in_bytes", &limit)) {
        read_number(folder, "memory.usage_in_bytes", &used);
        limit_memory(l, limit, used, read_stat(folder, "total_inactive_file"));
    }
    if (read_number(folder, "cpu.cfs_quota_us", &quota) && read_number(folder, "cpu.cfs_period_us", &period))
        limit_processors(l, quota, period);
}

/* The group at mount/path and all above it up to the mount: in a container the path may be the host's, and the mount the
 * group itself. */
static void read_groups(ContainerLimits *l, const char *mount, const char *path,
                        void (*read)(ContainerLimits *, const char *))
{
    char folder[PATH_MAX];
    if (snprintf(folder, sizeof folder, "%s%s", mount, path) >= (int)sizeof folder) return;
    size_t top = strlen(mount);
    for (;;) {
        size_t n = strlen(folder);
        while (n > top && folder[n - 1] == '/') folder[--n] = 0;
        read(l, folder);
        if (n <= top) return;
        char *slash = strrchr(folder, '/');
        *slash = 0;
    }
}

static bool has_word(const char *list, const char *word)
{
    size_t n = strlen(word);
    for (const char *p = list; *p; p += strcspn(p, ","), p += *p == ',')
        if (!strncmp(p, word, n) && (p[n] == ',' || !p[n])) return true;
    return false;
}

/* One line of /proc/self/cgroup: "ID:CONTROLLERS:PATH". */
static void read_line(ContainerLimits *l, const char *root, char *line)
{
    char mount[PATH_MAX / 2];
    char *controllers = strchr(line, ':'), *path = controllers ? strchr(controllers + 1, ':') : NULL;
    if (!path) return;
    *path++ = 0;
    controllers++;
    path[strcspn(path, "\n")] = 0;
    if (!*controllers) {
        static const char *const mounts[] = {"", "/unified"};
        for (int i = 0; i < 2; i++) {
            snprintf(mount, sizeof mount, "%s/sys/fs/cgroup%s", root, mounts[i]);
            read_groups(l, mount, path, read_v2);
        }
        return;
    }
    static const char *const names[] = {"memory", "cpu"};
    for (int i = 0; i < 2; i++) {
        if (!has_word(controllers, names[i])) continue;
        snprintf(mount, sizeof mount, "%s/sys/fs/cgroup/%s", root, names[i]);
        read_groups(l, mount, path, read_v1);
        snprintf(mount, sizeof mount, "%s/sys/fs/cgroup/%s", root, controllers); /* "cpu,cpuacct" */
        read_groups(l, mount, path, read_v1);
    }
}

ContainerLimits container_limits(const char *root)
{
    ContainerLimits l = {.memory = SIZE_MAX};
    char path[PATH_MAX], line[PATH_MAX];
    snprintf(path, sizeof path, "%s/proc/self/cgroup", root);
    FILE *f = fopen(path, "r");
    while (f && fgets(line, sizeof line, f)) read_line(&l, root, line);
    if (f) fclose(f);
    return l;
}
