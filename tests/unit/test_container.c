/* Limits of control groups: both versions, nested groups, a container that sees itself as the root, files of no limit. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "recipes/model/container.h"
#include "tests/unit/scratch.h"
#include "tests/unit/unit.h"

enum { FILES = 8 };

/* What stands in the files of a machine; memory -1: no limit. */
typedef struct Tree {
    const char *name;
    struct {
        const char *path, *text;
    } files[FILES];
    double memory, processors;
} Tree;

#define V1 "9:name=systemd:/\n4:memory:/job/step\n2:cpu,cpuacct:/job\n0::/\n"

static const Tree trees[] = {
    {"nothing", {{NULL, NULL}}, -1, 0},
    {"v2",
     {{"proc/self/cgroup", "0::/\n"},
      {"sys/fs/cgroup/memory.max", "536870912\n"},
      {"sys/fs/cgroup/cpu.max", "150000 100000\n"}},
     536870912,
     1.5},
    {"v2_none",
     {{"proc/self/cgroup", "0::/\n"}, {"sys/fs/cgroup/memory.max", "max\n"}, {"sys/fs/cgroup/cpu.max", "max 100000\n"}},
     -1,
     0},
    {"v2_used",
     {{"proc/self/cgroup", "0::/\n"},
      {"sys/fs/cgroup/memory.max", "1000000\n"},
      {"sys/fs/cgroup/memory.current", "700000\n"},
      {"sys/fs/cgroup/memory.stat", "anon 100\nfile 500000\ninactive_file 300000\nactive_file 1\n"}},
     600000,
     0},
    {"v2_high",
     {{"proc/self/cgroup", "0::/\n"},
      {"sys/fs/cgroup/memory.max", "1000000\n"},
      {"sys/fs/cgroup/memory.high", "800000\n"}},
     800000,
     0},
    {"v2_full",
     {{"proc/self/cgroup", "0::/\n"},
      {"sys/fs/cgroup/memory.max", "1000\n"},
      {"sys/fs/cgroup/memory.current", "2000\n"}},
     0,
     0},
    /* the group above is the tighter one, in memory; the one below in processors */
    {"v2_nested",
     {{"proc/self/cgroup", "0::/slurm/job/step\n"},
      {"sys/fs/cgroup/slurm/memory.max", "3000000\n"},
      {"sys/fs/cgroup/slurm/job/memory.max", "2000000\n"},
      {"sys/fs/cgroup/slurm/job/step/memory.max", "max\n"},
      {"sys/fs/cgroup/slurm/cpu.max", "800000 100000\n"},
      {"sys/fs/cgroup/slurm/job/step/cpu.max", "50000 100000\n"}},
     2000000,
     0.5},
    /* without a namespace of its own a container reads the host's path, but its mount is the group itself */
    {"v2_host_path",
     {{"proc/self/cgroup", "0::/docker/4fa1\n"}, {"sys/fs/cgroup/memory.max", "7000000\n"}},
     7000000,
     0},
    {"v1",
     {{"proc/self/cgroup", V1},
      {"sys/fs/cgroup/memory/job/memory.limit_in_bytes", "5000000\n"},
      {"sys/fs/cgroup/memory/job/memory.usage_in_bytes", "1000000\n"},
      {"sys/fs/cgroup/memory/job/memory.stat", "cache 9\ntotal_inactive_file 400000\n"},
      {"sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"},
      {"sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_quota_us", "400000\n"},
      {"sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_period_us", "100000\n"}},
     4400000,
     4},
    {"v1_none",
     {{"proc/self/cgroup", V1},
      {"sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"},
      {"sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n"},
      {"sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n"}},
     -1,
     0},
    {"v1_host_path",
     {{"proc/self/cgroup", "4:memory:/docker/4fa1\n2:cpu:/docker/4fa1\n"},
      {"sys/fs/cgroup/memory/memory.limit_in_bytes", "6000000\n"},
      {"sys/fs/cgroup/cpu/cpu.cfs_quota_us", "200000\n"},
      {"sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n"}},
     6000000,
     2},
    {"hybrid",
     {{"proc/self/cgroup", "4:memory:/a\n0::/b\n"},
      {"sys/fs/cgroup/unified/b/memory.max", "9000000\n"},
      {"sys/fs/cgroup/memory/a/memory.limit_in_bytes", "8000000\n"}},
     8000000,
     0},
};

static void put(const char *root, const char *path, const char *text)
{
    char full[1000];
    snprintf(full, sizeof full, "%s/%s", root, path);
    for (char *c = full + strlen(root); *c; c++) {
        if (*c != '/') continue;
        *c = 0;
        mkdir(full, 0777);
        *c = '/';
    }
    FILE *f = fopen(full, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static void limits(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof trees / sizeof *trees; i++) {
        const Tree *t = &trees[i];
        const char *root = scratch_path(t->name);
        for (int k = 0; k < FILES && t->files[k].path; k++) put(root, t->files[k].path, t->files[k].text);
        ContainerLimits l = container_limits(root);
        size_t memory = t->memory < 0 ? SIZE_MAX : (size_t)t->memory;
        if (l.memory != memory || l.processors != t->processors)
            fail_msg("%s: %zu bytes, %g processors", t->name, l.memory, l.processors);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(limits)};
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
