/* The built-in tasks, in the order `r1 data --list` shows them: data/tasks/NAME.c defines `const Task task_NAME`. */
TASK(add)
TASK(mul)
TASK(sort)
TASK(chain)
TASK(countdown)
TASK(code)
TASK(helpful)
TASK(refusal)
