/* SPDX-License-Identifier: BSD-3-Clause */
/* sigbus - the one SIGBUS handler of the process, and the guards that survive it. */
#include "sigbus.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <ucontext.h>
#include <unistd.h>

#define WATCHES 64

struct guard {
	sigjmp_buf env;
	struct guard *outer;
	const void *where;
};

/* base is set last and cleared first: a handler that sees it may use the rest. */
struct watch {
	atomic_uintptr_t base;
	size_t length;
	const char *name;
	void (*failed)(void *owner);
	void *owner;
};

static __thread struct guard *volatile current;
static struct watch watches[WATCHES];
static pthread_mutex_t watches_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t installed = PTHREAD_ONCE_INIT;
static struct sigaction previous;

static struct watch *watch_find(const void *address)
{
	for (unsigned i = 0; i < WATCHES; i++) {
		uintptr_t base = atomic_load(&watches[i].base);

		if (base && (uintptr_t)address >= base && (uintptr_t)address - base < watches[i].length)
			return &watches[i];
	}
	return NULL;
}

static void say(const char *text)
{
	/* Nothing is left to do when even this fails. */
	if (write(STDERR_FILENO, text, strlen(text)) < 0)
		return;
}

static void on_sigbus(int signal_number, siginfo_t *info, void *context)
{
	struct guard *guard = current;
	const struct watch *watch;

	/* A SIGBUS that was sent by kill(2) has no address and no guard can answer it. */
	if (guard && info->si_code > 0) {
		guard->where = info->si_addr;
		/* The mask of before: kept here, where it costs nothing until there is a fault, and not by sigsetjmp(). */
		pthread_sigmask(SIG_SETMASK, &((ucontext_t *)context)->uc_sigmask, NULL);
		siglongjmp(guard->env, 1);
	}
	watch = info->si_code > 0 ? watch_find(info->si_addr) : NULL;
	if (watch) {
		say(watch->name);
		say(": SIGBUS: the file or its device failed under the mapping (truncated, I/O error, or no space left); ending\n");
		_exit(1);
	}
	if (previous.sa_flags & SA_SIGINFO) {
		previous.sa_sigaction(signal_number, info, context);
	} else if (previous.sa_handler != SIG_DFL && previous.sa_handler != SIG_IGN) {
		previous.sa_handler(signal_number);
	} else {
		/* The default ends the process: at once if it was sent, else when the access is tried again. */
		signal(SIGBUS, SIG_DFL);
		if (info->si_code <= 0)
			raise(SIGBUS);
	}
}

static void install(void)
{
	struct sigaction action = { .sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO };

	sigemptyset(&action.sa_mask);
	sigaction(SIGBUS, &action, &previous);
}

int sigbus_try(void (*fn)(void *arg), void *arg)
{
	struct guard guard = { .outer = current };
	struct watch *watch;

	pthread_once(&installed, install);
	if (sigsetjmp(guard.env, 0)) {
		current = guard.outer;
		watch = watch_find(guard.where);
		if (watch)
			watch->failed(watch->owner);
		return -EIO;
	}
	current = &guard;
	atomic_signal_fence(memory_order_seq_cst);
	fn(arg);
	atomic_signal_fence(memory_order_seq_cst);
	current = guard.outer;
	return 0;
}

int sigbus_watch(const void *base, size_t length, const char *name, void (*failed)(void *owner), void *owner)
{
	int rc = -EMFILE;

	pthread_once(&installed, install);
	pthread_mutex_lock(&watches_lock);
	for (unsigned i = 0; i < WATCHES; i++) {
		struct watch *watch = &watches[i];

		if (atomic_load(&watch->base))
			continue;
		watch->length = length;
		watch->name = name;
		watch->failed = failed;
		watch->owner = owner;
		atomic_store(&watch->base, (uintptr_t)base);
		rc = 0;
		break;
	}
	pthread_mutex_unlock(&watches_lock);
	return rc;
}

void sigbus_unwatch(const void *base)
{
	pthread_mutex_lock(&watches_lock);
	for (unsigned i = 0; i < WATCHES; i++) {
		if (atomic_load(&watches[i].base) == (uintptr_t)base)
			atomic_store(&watches[i].base, 0);
	}
	pthread_mutex_unlock(&watches_lock);
}
