/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * locks - who has which block: alloc, free, map, unmap and persist of one block
 * each, and the accounting of frames that move its bytes.
 *
 * A block that is being allocated, freed or mapped is *busy*; others wait.
 * Whoever made it busy runs already and waits for nothing but frames (bounded:
 * the lane that stalls is shut down) and persists under way, so all of them get on.
 *
 * Over verbs there are no frames: a map is a memory region, registered when the
 * block is pinned, and deregistering it, before the pin goes and the answer is
 * sent, is what ends access.
 */
#include "server.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "report.h"

static struct block *block_get(struct server *server, uint64_t number)
{
	struct table_node *node = table_find(&server->blocks, number);
	struct block *block;

	if (node) {
		block = table_entry(node, struct block, node);
	} else {
		block = calloc(1, sizeof(*block));
		if (!block)
			return NULL;
		table_insert(&server->blocks, &block->node, number);
	}
	block->refs++;
	return block;
}

static void block_put(struct server *server, struct block *block)
{
	if (--block->refs)
		return;
	table_remove(&server->blocks, &block->node);
	free(block);
}

static void wait_changed(struct server *server)
{
	pthread_cond_wait(&server->changed, &server->lock);
}

static struct map *map_of(struct session *session, uint64_t number)
{
	struct table_node *node = table_find(&session->maps, number);

	return node ? table_entry(node, struct map, node) : NULL;
}

static bool exclusive(uint32_t flags)
{
	return flags & WIRE_MAP_EXCLUSIVE;
}

static bool writes(uint32_t flags)
{
	return flags & (WIRE_MAP_WRITE | WIRE_MAP_EXCLUSIVE);
}

/* Takes a quiet map out of its session and its block; its pin is gone already. */
static void map_delete(struct server *server, struct map *map)
{
	struct session *session = map->session;

	pthread_mutex_lock(&session->lock);
	table_remove(&session->maps, &map->node);
	pthread_mutex_unlock(&session->lock);
	for (struct map **at = &map->block->maps; *at; at = &(*at)->next) {
		if (*at == map) {
			*at = map->next;
			break;
		}
	}
	grants_count(session, -1);
	block_put(server, map->block);
	free(map);
	pthread_cond_broadcast(&server->changed);
}

static uint32_t frames_in(struct map *map)
{
	uint32_t n;

	pthread_mutex_lock(&map->session->lock);
	n = map->in_flight;
	pthread_mutex_unlock(&map->session->lock);
	return n;
}

/*
 * Ends the peer's access over verbs.  Called without locks.  When the device does not take the region back, access
 * through it ends with the session's queue pairs, so the session has to: the map stays until then, dead.
 */
static int region_end(struct server *server, struct map *map)
{
	int ret;

	if (!map->region)
		return 0;
	ret = verbs_deregister(map->session->domain, map->region);
	if (!ret) {
		map->region = NULL;
		atomic_fetch_sub(&server->regions_n, 1);
		return 0;
	}
	pthread_mutex_lock(&server->lock);
	session_kill(map->session, WIRE_NOTICE_REVOKED);
	pthread_mutex_unlock(&server->lock);
	return -EIO;
}

/* Refuses new frames and waits for those under way; a lane that stalls in one is shut down. */
static void map_quiesce(struct server *server, struct map *map)
{
	struct session *session = map->session;
	uint64_t until_ns = now_ns() + server->config.quiesce_ms * 1000000ull;
	struct timespec until = {.tv_sec = (time_t)(until_ns / 1000000000u), .tv_nsec = (long)(until_ns % 1000000000u)};

	pthread_mutex_lock(&session->lock);
	map->dead = true;
	pthread_mutex_unlock(&session->lock);
	while (frames_in(map))
		if (pthread_cond_timedwait(&server->changed, &server->lock, &until) == ETIMEDOUT)
			break;
	if (!frames_in(map))
		return;
	pthread_mutex_lock(&session->lock);
	for (uint32_t i = 0; i < server->config.max_lanes; i++) {
		struct lane *lane = session->lane[i];

		if (!lane || lane->busy_map != map)
			continue;
		report_warning("%s: stalled in block %llx that is being unmapped; closing lane %u of session %llu",
			       lane->peer.text, (unsigned long long)map->node.key << WIRE_BLOCK_SHIFT, lane->number,
			       (unsigned long long)session->number);
		lane_shutdown(lane);
	}
	pthread_mutex_unlock(&session->lock);
	while (frames_in(map))
		wait_changed(server);
}

/*
 * What stands in the way of mapping the block so?  0: nothing; 1: wait and look
 * again; LOCKS_SLOW as -EAGAIN when waiting is not allowed; -EBUSY.
 */
static int conflicts(struct session *session, struct block *block, uint32_t flags, bool may_wait)
{
	bool clash = false, gone = false;

	for (struct map *map = block->maps; map; map = map->next) {
		struct session *holder = map->session;
		bool dead;

		if (holder == session)
			continue;
		pthread_mutex_lock(&holder->lock);
		dead = map->dead;
		pthread_mutex_unlock(&holder->lock);
		if (dead || holder->dying) {
			gone = true;
			continue;
		}
		if (!exclusive(flags) && !exclusive(map->flags))
			continue;
		clash = true;
		/* a peer that has hung up is on its way out, whatever it is */
		if (session_hung_up(holder))
			continue;
		if (!holder->transport->revocable) {
			if ((flags & WIRE_MAP_PREEMPT) && server_may_complain(session->server))
				report_notice("block %llx cannot be preempted: session %llu is local, and its mapping "
					      "ends only with its process %llu",
					      (unsigned long long)block->node.key << WIRE_BLOCK_SHIFT,
					      (unsigned long long)holder->number, (unsigned long long)holder->pid);
			return -EBUSY;
		}
		if (!(flags & WIRE_MAP_PREEMPT) && !session_expired(holder))
			return -EBUSY;
	}
	if (!clash && !gone)
		return 0;
	if (!may_wait)
		return -EAGAIN;
	for (struct map *map = block->maps; map && clash; map = map->next) {
		struct session *holder = map->session;

		if (holder == session || holder->dying || (!exclusive(flags) && !exclusive(map->flags)))
			continue;
		report_notice("session %llu (%s, pid %llu) is ended: session %llu (%s) maps block %llx and it %s",
			      (unsigned long long)holder->number, holder->name, (unsigned long long)holder->pid,
			      (unsigned long long)session->number, session->name,
			      (unsigned long long)block->node.key << WIRE_BLOCK_SHIFT,
			      session_hung_up(holder)   ? "has hung up"
			      : session_expired(holder) ? "was not heard of for longer than its lease"
							: "is preempted");
		session_kill(holder, WIRE_NOTICE_REVOKED);
	}
	return 1;
}

int locks_alloc(struct session *session, uint64_t addr)
{
	struct server *server = session->server;
	uint64_t number = addr >> WIRE_BLOCK_SHIFT;
	uint32_t slot, memory;
	struct block *block;
	bool released;
	int ret = 0;

	if (addr & (WIRE_BLOCK_SIZE - 1))
		return -EINVAL;
	pthread_mutex_lock(&server->lock);
	block = block_get(server, number);
	if (!block) {
		pthread_mutex_unlock(&server->lock);
		return -ENOMEM;
	}
	while (block->busy && !session->dying)
		wait_changed(server);
	if (session->dying)
		ret = -ECONNRESET;
	else if (idmap_find(server->map, number) != IDMAP_NONE)
		ret = -EEXIST;
	if (ret)
		goto out;
	block->busy = true;
	pthread_mutex_unlock(&server->lock);

	ret = pool_take(server->pool, number, &slot);
	if (!ret) {
		ret = tier_fresh(server->tier, slot);
		if (ret)
			(void)pool_release(server->pool, slot); /* the alloc failed either way; a failing pool latches */
	}

	pthread_mutex_lock(&server->lock);
	if (!ret) {
		ret = idmap_insert(server->map, number, slot);
		if (ret) {
			pthread_mutex_unlock(&server->lock);
			memory = tier_drop(server->tier, slot);
			released = !pool_release(server->pool, slot);
			tier_dropped(server->tier, slot, memory, released);
			pthread_mutex_lock(&server->lock);
		} else {
			server->generation++;
		}
	}
	block->busy = false;
	pthread_cond_broadcast(&server->changed);
out:
	block_put(server, block);
	pthread_mutex_unlock(&server->lock);
	return ret;
}

/* 0: nobody else has it; 1: look again, something is ending; -EBUSY. */
static int others(struct session *session, struct block *block)
{
	for (struct map *map = block->maps; map; map = map->next) {
		struct session *holder = map->session;
		bool dead;

		pthread_mutex_lock(&holder->lock);
		dead = map->dead;
		pthread_mutex_unlock(&holder->lock);
		if (dead || (holder != session && holder->dying))
			return 1;
		if (holder != session)
			return -EBUSY;
	}
	return 0;
}

int locks_free(struct session *session, uint64_t addr)
{
	struct server *server = session->server;
	uint64_t number = addr >> WIRE_BLOCK_SHIFT;
	uint32_t slot, memory;
	struct block *block;
	struct map *own;
	int ret;

	if (addr & (WIRE_BLOCK_SIZE - 1))
		return -EINVAL;
	pthread_mutex_lock(&server->lock);
	block = block_get(server, number);
	if (!block) {
		pthread_mutex_unlock(&server->lock);
		return -ENOMEM;
	}
	for (;;) {
		ret = -ECONNRESET;
		if (session->dying)
			goto out;
		if (block->busy) {
			wait_changed(server);
			continue;
		}
		ret = -ENOENT;
		slot = idmap_find(server->map, number);
		if (slot == IDMAP_NONE)
			goto out;
		ret = others(session, block);
		if (ret < 0)
			goto out;
		if (!ret)
			break;
		wait_changed(server);
	}
	block->busy = true;
	own = map_of(session, number);
	if (own)
		map_quiesce(server, own);
	while (block->users)
		wait_changed(server);
	pthread_mutex_unlock(&server->lock);

	ret = own ? region_end(server, own) : 0;
	if (ret) {
		pthread_mutex_lock(&server->lock);
		goto idle;
	}
	if (own)
		tier_unpin(server->tier, slot, writes(own->flags), true);
	memory = tier_drop(server->tier, slot);
	ret = pool_release(server->pool, slot);
	/* the block is still busy: nobody can have allocated it anew before the memory has forgotten it */
	tier_dropped(server->tier, slot, memory, !ret);

	pthread_mutex_lock(&server->lock);
	if (own)
		map_delete(server, own);
	if (!ret) {
		/* when it failed the slot word may say either; the pool has latched, and its next start tells */
		idmap_remove(server->map, number);
		server->generation++;
	}
idle:
	block->busy = false;
	pthread_cond_broadcast(&server->changed);
out:
	block_put(server, block);
	pthread_mutex_unlock(&server->lock);
	return ret;
}

/* The caller holds server.lock and has made the block busy; the lock is dropped for the store. */
static int map_make(struct session *session, struct block *block, uint32_t slot, uint32_t flags, bool settle,
		    struct map **out)
{
	struct server *server = session->server;
	struct map *map = calloc(1, sizeof(*map));
	struct tier_place place;
	int ret = 0;

	if (!map)
		return -ENOMEM;
	grants_count(session, 1); /* within the grant from now on */
	pthread_mutex_unlock(&server->lock);
	if (settle)
		ret = tier_settle(server->tier, slot);
	if (!ret)
		ret = tier_pin(server->tier, slot, writes(flags), &place);
	if (!ret && session->domain) {
		ret = verbs_register(session->domain, place.address, WIRE_BLOCK_SIZE, block->node.key << WIRE_BLOCK_SHIFT,
				     writes(flags), &map->region, &map->key);
		if (ret)
			tier_unpin(server->tier, slot, writes(flags), true);
		else
			atomic_fetch_add(&server->regions_n, 1);
	}
	pthread_mutex_lock(&server->lock);
	if (ret) {
		grants_count(session, -1);
		free(map);
		pthread_cond_broadcast(&server->changed);
		return ret;
	}
	map->session = session;
	map->block = block;
	map->slot = slot;
	map->flags = flags;
	map->address = place.address;
	if (session->transport->frames) {
		/* an odd stride visits every 32-bit number before one comes again */
		map->key = server->next_key += 0x9e3779b1u;
		map->place = block->node.key << WIRE_BLOCK_SHIFT;
	} else if (session->domain) {
		map->place = block->node.key << WIRE_BLOCK_SHIFT;
	} else {
		map->key = 0;
		map->place = place.fd_offset;
	}
	block->refs++;
	map->next = block->maps;
	block->maps = map;
	pthread_mutex_lock(&session->lock);
	table_insert(&session->maps, &map->node, block->node.key);
	pthread_mutex_unlock(&session->lock);
	*out = map;
	return 0;
}

int locks_map(struct session *session, uint64_t addr, uint32_t flags, bool may_wait, uint64_t *patience_ns,
	      struct wire_handle *handle)
{
	struct server *server = session->server;
	uint64_t number = addr >> WIRE_BLOCK_SHIFT;
	struct block *block;
	struct map *map;
	uint32_t slot;
	bool settle;
	int ret;

	if ((addr & (WIRE_BLOCK_SIZE - 1)) || (flags & ~WIRE_MAP_KNOWN))
		return -EINVAL;
	if (exclusive(flags))
		flags |= WIRE_MAP_WRITE;
	pthread_mutex_lock(&server->lock);
	block = block_get(server, number);
	if (!block) {
		pthread_mutex_unlock(&server->lock);
		return -ENOMEM;
	}
	for (;;) {
		bool dead = false;

		ret = -ECONNRESET;
		if (session->dying)
			goto out;
		ret = 1;
		if (block->busy)
			goto again;
		slot = idmap_find(server->map, number);
		ret = -ENOENT;
		if (slot == IDMAP_NONE)
			goto out;
		map = map_of(session, number);
		if (map) {
			pthread_mutex_lock(&session->lock);
			dead = map->dead;
			pthread_mutex_unlock(&session->lock);
		}
		if (map && !dead) {
			uint32_t want = flags & (WIRE_MAP_WRITE | WIRE_MAP_EXCLUSIVE);

			ret = (want & ~map->flags) ? -EBUSY : 0;
			goto out;
		}
		ret = 1;
		if (dead)
			goto again;
		ret = conflicts(session, block, flags, may_wait);
		if (ret == -EAGAIN) {
			ret = LOCKS_SLOW;
			goto out;
		}
		if (ret < 0)
			goto out;
		if (!ret) {
			ret = grants_check(session);
			if (!ret)
				break;
			if (ret == -ENOMEM)
				grants_refused(session, WIRE_REFUSED_MAPS);
			if (ret == -EAGAIN && may_wait) {
				ret = grants_wait(session, patience_ns);
				if (!ret)
					continue;
				grants_refused(session, WIRE_REFUSED_MEMORY);
			}
			if (ret == -EAGAIN)
				ret = LOCKS_SLOW;
			goto out;
		}
	again:
		if (!may_wait) {
			ret = LOCKS_SLOW;
			goto out;
		}
		wait_changed(server);
	}
	settle = tier_unsettled(server->tier, slot);
	ret = LOCKS_SLOW;
	if (!may_wait && (settle || !tier_ready(server->tier, slot)))
		goto out;
	block->busy = true;
	ret = map_make(session, block, slot, flags & ~WIRE_MAP_PREEMPT, settle, &map);
	block->busy = false;
	pthread_cond_broadcast(&server->changed);
out:
	if (!ret) {
		handle->key = map->key;
		handle->place = map->place;
	}
	block_put(server, block);
	pthread_mutex_unlock(&server->lock);
	return ret;
}

int locks_unmap(struct session *session, uint64_t addr, uint32_t flags, bool may_wait)
{
	struct server *server = session->server;
	uint64_t number = addr >> WIRE_BLOCK_SHIFT;
	struct map *map;
	bool dead, quiet;
	int ret;

	if ((addr & (WIRE_BLOCK_SIZE - 1)) || (flags & ~WIRE_UNMAP_KNOWN))
		return -EINVAL;
	pthread_mutex_lock(&server->lock);
	for (;;) {
		ret = -ECONNRESET;
		if (session->dying)
			goto out;
		map = map_of(session, number);
		ret = -ENOENT;
		if (!map)
			goto out;
		pthread_mutex_lock(&session->lock);
		dead = map->dead;
		quiet = !map->in_flight;
		if (!dead && quiet)
			map->dead = true;
		pthread_mutex_unlock(&session->lock);
		if (!dead)
			break;
		/* another lane of this session unmaps or frees it */
		ret = LOCKS_SLOW;
		if (!may_wait)
			goto out;
		wait_changed(server);
	}
	ret = LOCKS_SLOW;
	if (!quiet && !may_wait)
		goto out;
	if (!quiet)
		map_quiesce(server, map);
	pthread_mutex_unlock(&server->lock);
	ret = region_end(server, map);
	if (ret)
		return ret;
	/* before the lock is gone, so that whoever maps next finds the block unsettled if it is */
	tier_unpin(server->tier, map->slot, writes(map->flags), flags & WIRE_UNMAP_CLEAN);
	pthread_mutex_lock(&server->lock);
	map_delete(server, map);
	ret = 0;
out:
	pthread_mutex_unlock(&server->lock);
	return ret;
}

/*
 * A local peer that is cut off by the brick's end has the memory still, and its stores complete until it looks at the
 * connection.  So what it had pinned for writing stays so: the memory file is kept then, for the next start.
 */
static bool keeps_writing(const struct session *session, const struct map *map)
{
	return !session->transport->revocable && atomic_load(&session->server->stopping) && writes(map->flags);
}

void locks_release_all(struct session *session)
{
	struct server *server = session->server;
	struct ibv_mr **regions = session->maps_n ? calloc(session->maps_n, sizeof(*regions)) : NULL;
	struct table_node *node;
	uint32_t n = 0;

	pthread_mutex_lock(&server->lock);
	while ((node = table_any(&session->maps))) {
		struct map *map = table_entry(node, struct map, node);

		pthread_mutex_unlock(&server->lock);
		/*
		 * The session's queue pairs are gone, and without one in its domain no peer reaches its regions: they
		 * may outlive the pins, and whoever waits for the locks need not wait for them.
		 */
		if (map->region && regions)
			regions[n++] = map->region;
		else if (map->region && !verbs_deregister(session->domain, map->region))
			atomic_fetch_sub(&server->regions_n, 1);
		if (!keeps_writing(session, map))
			tier_unpin(server->tier, map->slot, writes(map->flags), false);
		pthread_mutex_lock(&server->lock);
		map_delete(server, map);
	}
	pthread_mutex_unlock(&server->lock);
	while (n--)
		if (!verbs_deregister(session->domain, regions[n]))
			atomic_fetch_sub(&server->regions_n, 1);
	free(regions);
}

int locks_persist(struct lane *lane, uint64_t addr, uint32_t length)
{
	struct session *session = lane->session;
	struct server *server = session->server;
	uint64_t number = addr >> WIRE_BLOCK_SHIFT;
	struct block *block;
	uint32_t slot = IDMAP_NONE;
	int ret = 0;

	pthread_mutex_lock(&server->lock);
	block = block_get(server, number);
	if (!block) {
		pthread_mutex_unlock(&server->lock);
		return -ENOMEM;
	}
	/* a block being mapped may be persisted meanwhile, but one being freed or allocated must not; they look alike */
	while (block->busy && !session->dying)
		wait_changed(server);
	if (session->dying) {
		ret = -ECONNRESET;
		goto out;
	}
	slot = idmap_find(server->map, number);
	if (slot == IDMAP_NONE) {
		ret = -ENOENT;
		goto out;
	}
	block->users++; /* keeps it from being freed */
	pthread_mutex_unlock(&server->lock);
	/* only fault mode keeps a track for each lane, which is one thread's at a time */
	if (tier_mode(server->tier) == TIER_FAULT)
		pthread_mutex_lock(&lane->tier_lock);
	ret = tier_persist(lane->tier, slot, (uint32_t)(addr & (WIRE_BLOCK_SIZE - 1)), length);
	if (tier_mode(server->tier) == TIER_FAULT)
		pthread_mutex_unlock(&lane->tier_lock);
	pthread_mutex_lock(&server->lock);
	if (!--block->users && block->busy)
		pthread_cond_broadcast(&server->changed);
out:
	block_put(server, block);
	pthread_mutex_unlock(&server->lock);
	return ret;
}

int locks_revoke(struct session *by, uint64_t number)
{
	struct server *server = by->server;
	struct session *session;
	int ret = 0;

	pthread_mutex_lock(&server->lock);
	session = session_find(server, number);
	if (!session) {
		ret = -ENOENT;
	} else if (session == by) {
		ret = -EINVAL;
	} else if (!session->transport->revocable && !session_hung_up(session)) {
		report_notice("session %llu cannot be revoked: it is local, and ends only with its process %llu",
			      (unsigned long long)number, (unsigned long long)session->pid);
		ret = -EBUSY;
	} else if (by->dying) {
		ret = -ECONNRESET;
	} else {
		report_notice("session %llu (%s, pid %llu) is revoked by session %llu (%s)",
			      (unsigned long long)number, session->name, (unsigned long long)session->pid,
			      (unsigned long long)by->number, by->name);
		session_kill(session, WIRE_NOTICE_REVOKED);
		while (!by->dying && session_find(server, number))
			wait_changed(server);
		if (by->dying)
			ret = -ECONNRESET;
	}
	pthread_mutex_unlock(&server->lock);
	return ret;
}

int locks_access(struct lane *lane, const struct wire_rw *rw, bool write, struct map **out)
{
	struct session *session = lane->session;
	struct map *map;
	int ret = -EACCES;

	pthread_mutex_lock(&session->lock);
	map = map_of(session, rw->addr >> WIRE_BLOCK_SHIFT);
	if (map && map->key == rw->key && !map->dead && (!write || writes(map->flags))) {
		map->in_flight++;
		lane->busy_map = map;
		*out = map;
		ret = 0;
	}
	pthread_mutex_unlock(&session->lock);
	return ret;
}

void locks_access_end(struct lane *lane, struct map *map)
{
	struct session *session = lane->session;
	struct server *server = session->server;
	bool last_wanted;

	pthread_mutex_lock(&session->lock);
	lane->busy_map = NULL;
	last_wanted = !--map->in_flight && map->dead;
	pthread_mutex_unlock(&session->lock);
	if (!last_wanted)
		return;
	/* the map may be freed already: only the wake-up is left to do */
	pthread_mutex_lock(&server->lock);
	pthread_cond_broadcast(&server->changed);
	pthread_mutex_unlock(&server->lock);
}
