/* Records the OpenMP regions of a program. Preloaded, it stands before libgomp's GOMP_parallel, which GCC compiles regions into. At
   the end it writes a line for each region that no other holds to $REGIONS_OUT: the thread that entered it, seconds from the start of the
   process until its begin and its end, seconds that its threads worked there, all together, their number, and where its code is. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define MOST_THREADS 256
#define MOST_REGIONS 4000000

typedef void (*Work)(void*);

struct Call {
  Work work;
  void* data;
  atomic_int entered;
  double worked[MOST_THREADS]; /* seconds of each thread */
};

struct Region {
  pid_t thread;
  double begin, end, worked;
  int threads;
  Work work;
};

static void (*parallel)(Work, void*, unsigned, unsigned);
static struct Region* regions;
static atomic_int num_regions;
static double start;
static __thread int depth;

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + 1e-9 * t.tv_nsec;
}

/* Seconds since this process was started, to a hundredth (proc(5): field 22 of stat, in clock ticks since boot). */
static double process_age(void) {
  unsigned long long ticks = 0;
  FILE* file = fopen("/proc/self/stat", "r");
  if (file == NULL || fscanf(file, "%*d (%*[^)]) %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %llu", &ticks) != 1) abort();
  fclose(file);
  struct timespec t;
  clock_gettime(CLOCK_BOOTTIME, &t);
  return t.tv_sec + 1e-9 * t.tv_nsec - (double)ticks / sysconf(_SC_CLK_TCK);
}

static void work_and_time(void* given) {
  struct Call* call = given;
  const int mine = atomic_fetch_add(&call->entered, 1);
  const double begin = now();
  ++depth;
  call->work(call->data);
  --depth;
  if (mine < MOST_THREADS) call->worked[mine] = now() - begin;
}

void GOMP_parallel(Work work, void* data, unsigned num_threads, unsigned flags) {
  if (depth > 0 || regions == NULL) {
    parallel(work, data, num_threads, flags);
    return;
  }
  struct Call call = {.work = work, .data = data};
  const double begin = now();
  parallel(work_and_time, &call, num_threads, flags);
  const double end = now();
  const int number = atomic_fetch_add(&num_regions, 1);
  if (number >= MOST_REGIONS) return;
  struct Region* region = &regions[number];
  *region = (struct Region){.thread = gettid(), .begin = begin - start, .end = end - start, .threads = call.entered, .work = work};
  for (int i = 0; i < call.entered && i < MOST_THREADS; ++i) region->worked += call.worked[i];
}

__attribute__((constructor)) static void begin_recording(void) {
  start = now() - process_age();
  parallel = (void (*)(Work, void*, unsigned, unsigned))dlsym(RTLD_NEXT, "GOMP_parallel");
  if (getenv("REGIONS_OUT") != NULL) regions = malloc(MOST_REGIONS * sizeof *regions); /* touched as it fills */
}

__attribute__((destructor)) static void write_regions(void) {
  const char* path = getenv("REGIONS_OUT");
  FILE* file = path != NULL && regions != NULL ? fopen(path, "w") : NULL;
  if (file == NULL) return;
  for (int i = 0; i < num_regions && i < MOST_REGIONS; ++i) {
    const struct Region* r = &regions[i];
    Dl_info where = {0};
    dladdr((void*)r->work, &where);
    fprintf(file, "%d %.9f %.9f %.9f %d %s %lx\n", r->thread, r->begin, r->end, r->worked, r->threads, where.dli_fname ? where.dli_fname : "?",
            (unsigned long)((char*)r->work - (char*)where.dli_fbase));
  }
  fclose(file);
}
