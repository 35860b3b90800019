dist_man_MANS += \
	man/brickfs.8 \
	man/mkfs.brickfs.8 \
	man/fsck.brickfs.8 \
	man/fsck.fuse.brickfs.8
dist_man_MANS += man/brick.3
dist_man_MANS += man/brickfs-format.5
dist_man_MANS += man/brick-protocol.7 man/brickctl.8
dist_man_MANS += man/brickd.8
