# r1.c: one binary from core/ cpu/ data/ checkpoints/ recipes/. `make help` lists the targets.
#
# Useful on the command line: CC=clang, BUILD=folder (objects and, unless it is "build", the binary go there),
# FOLDERS="core data" (only these folders enter the library that unit tests link with), T=pattern (a subset of tests),
# ONEDNN=no, OPENBLAS=no (build without it), SANITIZE=-fsanitize=..., OPT=-O0.

CC      := $(if $(filter default,$(origin CC)),gcc,$(CC))
OBJCOPY ?= objcopy
BUILD   ?= build
FOLDERS ?= core cpu data checkpoints recipes
OPT     ?= -O2
T       ?=

R1 := $(if $(filter build,$(BUILD)),r1,$(BUILD)/r1)

.DEFAULT_GOAL := all
.DELETE_ON_ERROR:
.SUFFIXES:

# ---- Libraries: what the compiler finds decides, never a path written here ------------------------------------------

hash := \#
have = $(shell for h in $(1); do echo "$(hash)include <$$h>"; done | $(CC) $(CPPFLAGS) $(HDF5_CFLAGS) -DPCRE2_CODE_UNIT_WIDTH=8 \
         -E -x c - >/dev/null 2>&1 && echo yes)
REQUIRED := hdf5.h yaml.h jansson.h pcre2.h utf8proc.h gmp.h xxhash.h openssl/evp.h

ifneq ($(filter-out clean help deps demo test test-asan test-peers fuzz notebooks,$(or $(MAKECMDGOALS),all)),)
ifeq ($(call have,hdf5.h),)
HDF5_CFLAGS := $(or $(shell pkg-config --cflags hdf5 2>/dev/null),$(addprefix -I,$(wildcard /usr/include/hdf5/serial)))
HDF5_LIBS   := $(or $(shell pkg-config --libs-only-L hdf5 2>/dev/null),$(addprefix -L,$(wildcard /usr/lib/*/hdf5/serial)))
endif
ifeq ($(call have,$(REQUIRED)),)
$(error no header $(foreach h,$(REQUIRED),$(if $(call have,$h),,<$h>)) for $(CC): run `make deps`, which installs what is missing)
endif
ifeq ($(or $(ONEDNN),$(call have,dnnl.h)),yes)
DEFINES += -DHAVE_ONEDNN
MATMUL_LIBS += -ldnnl
endif
ifeq ($(or $(OPENBLAS),$(call have,cblas.h)),yes)
DEFINES += -DHAVE_OPENBLAS
MATMUL_LIBS += -lopenblas
endif
endif

LIBS := $(HDF5_LIBS) -lhdf5 $(MATMUL_LIBS) -lyaml -ljansson -lpcre2-8 -lutf8proc -lgmp -lcrypto -ldl -lm

# ---- Flags ----------------------------------------------------------------------------------------------------------

CFLAGS_ALL = -std=c11 -D_GNU_SOURCE $(OPT) -g -ffp-contract=off -Wall -Wextra -I. $(DEFINES) $(SANITIZE) $(CPPFLAGS) $(CFLAGS)
DEPFLAGS    = -MMD -MP
LDFLAGS_ALL = -fopenmp -Wl,--as-needed $(SANITIZE) $(LDFLAGS)

KERNEL_OPT   ?= -O3
ISA_avx512   := -mavx512f -mavx512bw -mavx512dq -mavx512vl -mfma -mavx2 -mf16c -mprefer-vector-width=512
ISA_avx512bf16 := $(ISA_avx512) -mavx512bf16
ISA_avx2     := -mavx2 -mfma -mf16c
ISA_plain    :=
ISAS         := $(if $(filter x86_64%,$(shell $(CC) -dumpmachine)),avx512bf16 avx512 avx2) plain

# ---- Objects --------------------------------------------------------------------------------------------------------

MAIN     := $(wildcard recipes/cli/main.c)
SOURCES  := $(filter-out $(MAIN),$(filter-out cpu/kernels/%,$(foreach f,$(FOLDERS),$(wildcard $f/*.c $f/*/*.c))))
KERNELS  := $(if $(filter cpu,$(FOLDERS)),$(wildcard cpu/kernels/*.c cpu/kernels/*/*.c))
EMBEDDED := $(if $(filter recipes,$(FOLDERS)),$(BUILD)/recipes_embedded.o $(BUILD)/commit.o)
OBJECTS  := $(SOURCES:%.c=$(BUILD)/%.o) $(if $(KERNELS),$(ISAS:%=$(BUILD)/cpu_%.o)) $(EMBEDDED)
MAIN_O   := $(MAIN:%.c=$(BUILD)/%.o)
LIBRARY  := $(BUILD)/libr1.a

TEST_SOURCES := $(wildcard tests/unit/test_*.c)
TEST_SHARED  := $(patsubst %.c,$(BUILD)/%.o,$(filter-out $(TEST_SOURCES),$(wildcard tests/unit/*.c)))
TESTS        := $(foreach t,$(TEST_SOURCES:tests/unit/%.c=%),$(if $(or $(if $(T),,all),$(findstring $(T),$t)),$(BUILD)/tests/$t))

.PHONY: all objects unit fuzzers test test-asan test-peers test-mutants fuzz demo deps notebooks format format-check lint clean help FORCE
all: $(if $(MAIN),$(R1),objects) ## build ./r1
objects: $(LIBRARY) $(MAIN_O) ## compile everything but link nothing
unit: $(TESTS) ## build the unit tests into build/tests (T=pattern: some)

$(R1): $(MAIN_O) $(LIBRARY)
	$(CC) $(LDFLAGS_ALL) $^ $(LIBS) -o $@

$(LIBRARY): $(OBJECTS) $(BUILD)/objects.txt
	rm -f $@
	$(AR) qcs $@ $(OBJECTS)

$(BUILD)/%.o: %.c $(BUILD)/flags.txt
	@mkdir -p $(@D)
	$(CC) $(CFLAGS_ALL) $(if $(filter checkpoints/% tests/fuzz/fuzz_h5.c,$<),$(HDF5_CFLAGS)) $(if $(filter cpu/%,$<),-fopenmp) $(DEPFLAGS) -c $< -o $@

# Each file of cpu/kernels is compiled once for every instruction set. `ld -r` joins a set's objects and objcopy hides all
# but its one door, so that the same function names can live in the binary several times.
define isa_rules
$$(BUILD)/cpu/$(1)/%.o: cpu/kernels/%.c $$(BUILD)/flags.txt
	@mkdir -p $$(@D)
	$$(CC) $$(CFLAGS_ALL) $$(KERNEL_OPT) $$(ISA_$(1)) -DR1_ISA=$(1) -fopenmp $$(DEPFLAGS) -c $$< -o $$@

$$(BUILD)/cpu_$(1).o: $$(KERNELS:cpu/kernels/%.c=$$(BUILD)/cpu/$(1)/%.o) $$(BUILD)/objects.txt
	$$(LD) -r $$(filter %.o,$$^) -o $$@
	$$(OBJCOPY) --keep-global-symbol=cpu_kernels_$(1) $$@
endef
$(foreach isa,$(ISAS),$(eval $(call isa_rules,$(isa))))

# The built-in recipes, found by name from any folder, and the report's style sheet.
EMBED := $(wildcard recipes/*.yaml recipes/paper/*.yaml) recipes/report/style.css
$(BUILD)/recipes_embedded.c: recipes/recipes_to_c.sh $(EMBED) $(BUILD)/objects.txt
	sh recipes/recipes_to_c.sh $(EMBED) > $@
$(BUILD)/recipes_embedded.o: $(BUILD)/recipes_embedded.c $(BUILD)/flags.txt
	$(CC) $(CFLAGS_ALL) $(DEPFLAGS) -c $< -o $@

# The commit of the sources, for `r1 --version`.
COMMIT := $(if $(wildcard .git),$(shell git describe --always --abbrev=10 --dirty=+ --exclude='*' 2>/dev/null))
$(BUILD)/commit.c: FORCE
	@mkdir -p $(@D)
	@echo 'extern const char r1_commit[]; const char r1_commit[] = "$(or $(COMMIT),unknown)";' >$@.new
	@cmp -s $@.new $@ && rm $@.new || mv $@.new $@
$(BUILD)/commit.o: $(BUILD)/commit.c $(BUILD)/flags.txt
	$(CC) $(CFLAGS_ALL) -c $< -o $@

$(BUILD)/tests/%: $(BUILD)/tests/unit/%.o $(TEST_SHARED) $(LIBRARY)
	@mkdir -p $(@D)
	$(CC) $(LDFLAGS_ALL) $^ $(LIBS) -lcmocka -o $@

# ---- GPU ------------------------------------------------------------------------------------------------------------
# gpu/ is no part of r1: it becomes plugins that r1 opens at run time. build/gpu/libr1_emulated.so (and _checked: races, borders of
# arrays) needs a C++ compiler, build/gpu/libr1_gpu.so nvcc.

GPU_CXX     := $(shell command -v $(CXX))
GPU_HOST    := $(wildcard gpu/*.c) core/base/status.c
GPU_KERNELS := $(wildcard gpu/kernels/*.cu gpu/kernels/*/*.cu)
EMU         := fiber block device stream cublas
EMU_FMA     := $(if $(shell grep -m1 -o ' fma ' /proc/cpuinfo 2>/dev/null),-mavx2 -mfma)# without, fmaf is a call
EMU_ASAN    := -fsanitize=address,undefined -fno-sanitize-recover=undefined
EMU_C        = -std=c11 -D_GNU_SOURCE $(OPT) -g -fPIC -fvisibility=hidden -Wall -Wextra -I. -Igpu/emu $(DEPFLAGS)
EMU_CXX      = -std=c++17 -O2 -g -fPIC -fvisibility=hidden -ffp-contract=off -Wall -Wextra -Wno-unknown-pragmas -I. -Igpu/emu \
               $(DEPFLAGS)

# $(1): plain, checked or asan. Kernels of the checked build tell of every access.
define emu_rules
$$(BUILD)/gpu/$(1)/%.c.o: %.c
	@mkdir -p $$(@D)
	$$(CC) $$(EMU_C) $(2) -DR1_EMULATED -DR1_GPU_BUILD='"emulated$(if $(filter checked,$(1)),$(,) checked)"' -c $$< -o $$@
$$(BUILD)/gpu/$(1)/%.cc.o: %.cc
	@mkdir -p $$(@D)
	$$(CXX) $$(EMU_CXX) $(2) -c $$< -o $$@
$$(BUILD)/gpu/$(1)/%.cu.o: %.cu
	@mkdir -p $$(@D)
	$$(CXX) $$(EMU_CXX) $(2) $(3) $(EMU_FMA) -x c++ -c $$< -o $$@
$$(BUILD)/gpu/emu_selftest_$(1): $$(patsubst %,$$(BUILD)/gpu/$(1)/gpu/emu/%.cc.o,$(EMU) $(4)) $$(BUILD)/gpu/$(1)/gpu/emu/selftest.cu.o
	$$(CXX) $(2) $$^ -o $$@
$$(BUILD)/gpu/libr1_emulated$(5).so: $$(patsubst %,$$(BUILD)/gpu/$(1)/gpu/emu/%.cc.o,$(EMU) $(4)) \
    $$(GPU_HOST:%=$$(BUILD)/gpu/$(1)/%.o) $$(GPU_KERNELS:%=$$(BUILD)/gpu/$(1)/%.o)
	$$(CXX) -shared -Wl,--no-undefined $$^ -o $$@
endef
, := ,
$(eval $(call emu_rules,plain))
$(eval $(call emu_rules,checked,,-fsanitize=thread,race,_checked))
$(eval $(call emu_rules,asan,$(EMU_ASAN),,,_asan))

EMULATED := $(if $(GPU_CXX),$(patsubst %,$(BUILD)/gpu/%,emu_selftest_plain emu_selftest_checked emu_selftest_asan \
              libr1_emulated.so libr1_emulated_checked.so))
-include $(shell find $(BUILD)/gpu -name '*.d' 2>/dev/null)

# nvcc: the toolkit's usual place is looked at too. One object a kernel file, with machine code for each of GPU_ARCHS and PTX of the
# last, and a log of registers that gpu/ptxas_gate.sh reads.
NVCC      ?= $(firstword $(shell command -v nvcc) $(wildcard /usr/local/cuda/bin/nvcc))
GPU_ARCHS ?= 80 90 100 120
CUDA       = $(abspath $(dir $(NVCC))..)
NVCC_FLAGS = -std=c++17 -O3 -fmad=false -I. -Xcompiler -fPIC,-fvisibility=hidden -Xptxas -v,--warn-on-spills,--warn-on-local-memory-usage
gencode    = $(foreach a,$(1),-gencode arch=compute_$a,code=sm_$a)
CUDA_C     = -std=c11 -D_GNU_SOURCE $(OPT) -g -fPIC -fvisibility=hidden -Wall -Wextra -I. -isystem $(CUDA)/include $(DEPFLAGS) \
             -DR1_GPU_BUILD='"CUDA: $(GPU_ARCHS:%=sm_%)"'

$(BUILD)/gpu/cuda/%.c.o: %.c
	@mkdir -p $(@D)
	$(CC) $(CUDA_C) -c $< -o $@
$(BUILD)/gpu/cuda/%.cu.o: %.cu
	@mkdir -p $(@D)
	$(NVCC) $(NVCC_FLAGS) $(call gencode,$(GPU_ARCHS)) -gencode arch=compute_$(lastword $(GPU_ARCHS)),code=compute_$(lastword $(GPU_ARCHS)) \
	    -MMD -MF $(@:.o=.d) -c $< -o $@ >$(@:.o=.log) 2>&1 || { cat $(@:.o=.log); exit 1; }
$(BUILD)/gpu/libr1_gpu.so: $(GPU_HOST:%=$(BUILD)/gpu/cuda/%.o) $(GPU_KERNELS:%=$(BUILD)/gpu/cuda/%.o)
	sh gpu/ptxas_gate.sh $(GPU_KERNELS:%=$(BUILD)/gpu/cuda/%.log)
	$(NVCC) -shared -cudart static $^ -o $@

# What `make test` checks where nvcc is: both ends of the range, nothing linked.
$(BUILD)/gpu/gate/%.log: %.cu
	@mkdir -p $(@D)
	$(NVCC) $(NVCC_FLAGS) -no-compress $(call gencode,80 90) -MMD -MF $(@:.log=.d) -MT $@ -c $< -o $(@:.log=.o) >$@ 2>&1 || { cat $@; rm $@; exit 1; }
GPU_GATE := $(if $(NVCC),$(GPU_KERNELS:%.cu=$(BUILD)/gpu/gate/%.log))

.PHONY: emulated gpu gpu-gate
# cuBLAS is opened at run time by prototypes of ours: compared with its header where that is installed.
CUBLAS_TYPES := $(if $(wildcard $(CUDA)/include/cublas_v2.h),$(BUILD)/gpu/cuda/gpu/emu/cublas_types.c.o)
gpu: $(if $(NVCC),$(BUILD)/gpu/libr1_gpu.so $(CUBLAS_TYPES)) ## the GPU backend for NVIDIA cards, into build/gpu (needs nvcc; GPU_ARCHS=80 90 100 120)
	$(if $(NVCC),,@echo "no nvcc here: --device gpu is not built; install the CUDA toolkit (12.8 or later)" && exit 1)
gpu-gate: $(GPU_GATE) $(CUBLAS_TYPES)

emulated: $(EMULATED) ## the GPU backend under emulation on the CPU, into build/gpu (needs g++)
	$(if $(GPU_CXX),,@echo "no $(CXX) here: --device emulated is not built")

# Fuzz targets (CC=clang; SANITIZE has fuzzer-no-link).
FUZZERS := $(patsubst tests/fuzz/%.c,$(BUILD)/fuzz/%,$(wildcard tests/fuzz/fuzz_*.c))
fuzzers: $(FUZZERS)
$(BUILD)/fuzz/%: $(BUILD)/tests/fuzz/%.o $(BUILD)/tests/fuzz/file.o $(LIBRARY)
	@mkdir -p $(@D)
	$(CC) $(filter-out -fopenmp,$(LDFLAGS_ALL)) -fsanitize=fuzzer $^ $(LIBS) -o $@

# Rewritten only when their content changes: another compiler or flag recompiles, a file come or gone relinks.
$(BUILD)/flags.txt: FORCE
	@mkdir -p $(@D)
	@echo '$(CC) $(CFLAGS_ALL) $(KERNEL_OPT)' | cmp -s - $@ || echo '$(CC) $(CFLAGS_ALL) $(KERNEL_OPT)' > $@
$(BUILD)/objects.txt: FORCE
	@mkdir -p $(@D)
	@echo '$(OBJECTS) $(KERNELS) $(wildcard recipes/*.yaml recipes/paper/*.yaml)' | cmp -s - $@ || echo '$(OBJECTS) $(KERNELS) $(wildcard recipes/*.yaml recipes/paper/*.yaml)' > $@

.SECONDARY:
-include $(wildcard $(BUILD)/*.d $(BUILD)/*/*.d $(BUILD)/*/*/*.d $(BUILD)/*/*/*/*.d)

# ---- What a person calls --------------------------------------------------------------------------------------------

# The libraries are looked for when a makefile is read, so what follows `deps` is another make, on all processors unless told.
BUILD_ALL = $(MAKE) --no-print-directory $(if $(findstring jobserver,$(MAKEFLAGS)),,-j$(shell nproc 2>/dev/null || echo 1))
deps: ## install the Debian packages that are missing
	@sh install.sh

demo: deps ## install, build, and run the whole pipeline of recipes/tiny.yaml
	@+$(BUILD_ALL) all
	./r1 run tiny

test: deps ## install, build, run every test (T=pattern: some); ends with the counts
	@+$(BUILD_ALL) all unit emulated gpu-gate
	@BUILD=$(BUILD) R1=$(R1) T='$(T)' sh tests/run.sh

ASAN := BUILD=build/asan OPT=-O1 KERNEL_OPT=-O1 \
        SANITIZE='-fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer'
test-asan: deps ## unit tests, golden tests and a five-second recipe under the address and undefined sanitizers
	@+$(BUILD_ALL) $(ASAN) all unit
	@BUILD=build/asan R1=build/asan/r1 T='$(T)' SUITES="unit asan" sh tests/run.sh

test-peers: deps ## round trips with transformers and llama.cpp (installs them in .venv, several GB)
	@+$(BUILD_ALL) all
	sh tests/peers/setup.sh llama
	sh tests/peers/fetch_smollm2.sh
	$(CC) $(CFLAGS_ALL) tests/peers/losses.c $(addprefix core/losses/,grpo.c dpo.c ppo.c loss.c) -lm -o $(BUILD)/peers_losses
	.venv/bin/python tests/peers/trl_losses.py $(BUILD)/peers_losses
	@dir=$$(mktemp -d) && { .venv/bin/python tests/peers/roundtrip.py $(R1) "$$dir" && \
	    .venv/bin/python tests/peers/peft_check.py $(abspath $(R1)) "$$dir" $(addprefix tests/golden/,llama qwen2 v2_lite); code=$$?; rm -rf "$$dir"; exit $$code; }

test-mutants: deps ## small wrong changes, one at a time, each of which must turn a test red (T=pattern: some)
	@CC='$(CC)' python3 tests/mutants/run.py '$(T)'

FUZZ_SECONDS ?= 120
FUZZ := BUILD=build/fuzz CC=clang OPT=-O1 FOLDERS="core data checkpoints recipes" \
        SANITIZE='-fsanitize=fuzzer-no-link,address -fno-omit-frame-pointer'
fuzz: deps ## libFuzzer on the readers of foreign files, FUZZ_SECONDS=120 each (T=pattern: some)
	@+$(BUILD_ALL) $(FUZZ) fuzzers
	@T='$(T)' sh tests/fuzz/run.sh build/fuzz $(FUZZ_SECONDS)

notebooks: deps ## execute the notebooks (installs Jupyter in .venv-notebooks)
	@+$(BUILD_ALL) all
	[ -x .venv-notebooks/bin/jupyter ] || python3 -m venv .venv-notebooks
	.venv-notebooks/bin/pip install -q -r notebooks/requirements.txt
	cd notebooks && ../.venv-notebooks/bin/jupyter nbconvert --to notebook --execute --inplace *.ipynb

FORMATTED := $(foreach f,core cpu gpu data checkpoints recipes tests,$(shell find $f -name '*.[ch]' -o -name '*.cu' -o -name '*.cuh' -o -name '*.cc'))
format: ## clang-format (14) on every source file, in place
	clang-format -i $(FORMATTED)
format-check: ## fails when `make format` would change a file
	clang-format --dry-run --Werror $(FORMATTED)

lint: ## clang's warnings on every source file, shellcheck on every script
	@printf '%s\n' $(filter %.c,$(filter-out gpu/%,$(FORMATTED))) | xargs -P $$(nproc) -n 8 clang -fsyntax-only -Werror \
	    $(filter-out -O%,$(CFLAGS_ALL)) $(HDF5_CFLAGS) -DR1_ISA=plain -fopenmp
	@shellcheck -S warning -e SC2086 install.sh $$(find tests recipes -name '*.sh')

clean: ## remove build/ and ./r1
	rm -rf build r1

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' Makefile | awk -F'|' '{ printf "%-18s %s\n", $$1, $$2 }'
