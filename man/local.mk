dist_man_MANS += \
	man/brickfs.8 \
	man/mkfs.brickfs.8 \
	man/fsck.brickfs.8
