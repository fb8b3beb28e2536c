/* What a container (Docker, Kubernetes, Slurm: control groups, version 1 and 2) leaves this process of the machine. */
#ifndef RECIPES_CONTAINER_H
#define RECIPES_CONTAINER_H

#include <stddef.h>

typedef struct ContainerLimits {
    size_t memory;     /* bytes that may still be taken before the process is killed; SIZE_MAX: no limit */
    double processors; /* processor seconds a second; 0: no quota */
} ContainerLimits;

/* The tightest limits of the process's groups and all above them. Page cache that the kernel would drop is not counted as
 * taken. root: "" for this machine; tests give a folder that holds proc/self/cgroup and sys/fs/cgroup. */
ContainerLimits container_limits(const char *root);

#endif
