//! Examples of every command, for `--help` and the manual pages.

/// What is wanted, and the lines that do it.
pub type Example = (&'static str, &'static [&'static str]);

/// The examples of a command; those of `puzzlefs` itself are a first tour.
pub fn of(command: &str) -> &'static [Example] {
    let found = EXAMPLES.iter().find(|(name, _)| *name == command);
    found.map_or(&[], |(_, examples)| examples)
}

/// The examples of a command as a section of its help.
pub fn help(command: &str) -> String {
    let mut help = "Examples:".to_owned();
    for (index, (what, lines)) in of(command).iter().enumerate() {
        let gap = if index > 0 { "\n" } else { "" };
        help.push_str(&format!("{gap}\n  {what}:\n    {}\n", lines.join("\n    ")));
    }
    help.trim_end().to_owned()
}

const EXAMPLES: &[(&str, &[Example])] = &[
    (
        "puzzlefs",
        &[
            (
                "Make an image of a directory, and look into it",
                &[
                    "puzzlefs build rootfs images:v1",
                    "puzzlefs ls -l images:v1 /etc",
                    "puzzlefs cat images:v1 /etc/os-release",
                ],
            ),
            (
                "Change it through a mount, and make the next image of the changes",
                &[
                    "puzzlefs mount --persist changes images:v1 mnt",
                    "cp app mnt/usr/bin",
                    "puzzlefs umount mnt",
                    "puzzlefs delta --base images:v1 changes/upper images:v2",
                    "puzzlefs diff images:v1 images:v2",
                ],
            ),
            (
                "Carry it to a registry, as any OCI image",
                &["skopeo copy oci:images:v2 docker://registry.example/app:v2"],
            ),
        ],
    ),
    (
        "build",
        &[
            ("Make an image in the layout 'images'", &["puzzlefs build rootfs images:v1"]),
            (
                "The next version, which shares what the first has of it",
                &["puzzlefs build --base images:v1 rootfs images:v2"],
            ),
            (
                "The same image whoever builds it and whenever",
                &["puzzlefs build --owner 0:0 --clamp-mtime=1700000000 rootfs images:release"],
            ),
            (
                "Without some files, and compressed harder",
                &[
                    "puzzlefs build --exclude '*.pyc' --exclude var/cache -c=zstd:19 rootfs images:small",
                ],
            ),
        ],
    ),
    (
        "delta",
        &[
            (
                "What was written into a mount becomes the next image",
                &[
                    "puzzlefs mount --persist changes images:v1 mnt",
                    "cp app mnt/usr/bin",
                    "puzzlefs umount mnt",
                    "puzzlefs delta --base images:v1 changes/upper images:v2",
                ],
            ),
            (
                "The upperdir of an overlay that was mounted with userxattr",
                &["puzzlefs delta --base images:v1 --marks user upper images:v2"],
            ),
        ],
    ),
    (
        "canonicalize",
        &[(
            "After many deltas, the image that one build would have given",
            &["puzzlefs canonicalize images:v9 images:release"],
        )],
    ),
    (
        "convert",
        &[
            (
                "An image of a registry",
                &[
                    "skopeo copy docker://docker.io/library/debian:12 oci:debian:12",
                    "puzzlefs convert debian:12 images:debian",
                ],
            ),
            (
                "Another platform's image, as one step",
                &["puzzlefs convert --platform linux/arm64 --squash debian:12 images:debian-arm64"],
            ),
        ],
    ),
    (
        "extract",
        &[
            ("Everything, with owners and times", &["puzzlefs extract images:v1 somewhere"]),
            (
                "As an ordinary user, whose all files will be",
                &["puzzlefs extract --no-same-owner images:v1 somewhere"],
            ),
        ],
    ),
    (
        "export",
        &[
            ("Into podman", &["puzzlefs export images:v1 | podman import - app:v1"]),
            ("Into a file", &["puzzlefs export --output v1.tar images:v1"]),
        ],
    ),
    (
        "inspect",
        &[
            ("What an image is", &["puzzlefs inspect images:v1"]),
            (
                "One number of it, for a script",
                &["puzzlefs inspect --json images:v1 | jq .bytes.data"],
            ),
            (
                "A picture of what the images of a layout share",
                &["puzzlefs inspect --graph images > images.svg"],
            ),
            ("Where each file's data is", &["puzzlefs inspect --dump images:v1"]),
        ],
    ),
    (
        "ls",
        &[
            ("A directory", &["puzzlefs ls -l images:v1 /etc"]),
            ("All names of an image", &["puzzlefs ls -R images:v1"]),
        ],
    ),
    ("cat", &[("A file", &["puzzlefs cat images:v1 /etc/os-release"])]),
    (
        "fsck",
        &[
            ("All images of a layout", &["puzzlefs fsck images"]),
            ("One image", &["puzzlefs fsck images:v1"]),
            (
                "What is missing or damaged, taken from a copy",
                &["puzzlefs fsck --repair --from backup images"],
            ),
        ],
    ),
    (
        "diff",
        &[
            ("What changed, and what it costs", &["puzzlefs diff images:v1 images:v2"]),
            ("For a script", &["puzzlefs diff --json images:v1 images:v2 | jq .added.bytes"]),
        ],
    ),
    (
        "config",
        &[
            (
                "What is run, where, and with which environment",
                &[
                    "puzzlefs config images:v1 --entrypoint /usr/bin/app --env LANG=C.UTF-8 --workdir /srv",
                ],
            ),
            (
                "Other arguments, under another tag",
                &[
                    "puzzlefs config images:v1 --tag debug --clear config.cmd --cmd --verbose --cmd --wait",
                ],
            ),
        ],
    ),
    ("tag", &[("A second name for an image", &["puzzlefs tag images:v2 latest"])]),
    (
        "untag",
        &[(
            "Remove an image, and what only it needs",
            &["puzzlefs untag images:v1", "puzzlefs gc images"],
        )],
    ),
    (
        "tags",
        &[
            ("The tags of a layout", &["puzzlefs tags images"]),
            ("For a script", &["puzzlefs tags --json images | jq -r '.[].tag'"]),
        ],
    ),
    (
        "gc",
        &[
            ("See what would go", &["puzzlefs gc --dry-run images"]),
            ("Where no other tool is at work in the layout", &["puzzlefs gc --grace 0 images"]),
        ],
    ),
    (
        "mount",
        &[
            (
                "Read-only, until it is unmounted",
                &["puzzlefs mount images:v1 mnt", "puzzlefs umount mnt"],
            ),
            (
                "Writable; 'changes/upper' is what `puzzlefs delta` takes",
                &["puzzlefs mount --persist changes images:v1 mnt"],
            ),
            (
                "Only what was built, and no byte of it another",
                &[
                    "digest=$(puzzlefs build rootfs images:v1)",
                    "puzzlefs mount --digest \"$digest\" -o verify images:v1 mnt",
                ],
            ),
            ("From /etc/fstab", &["/srv/images:v1  /mnt  puzzlefs  nodev,nosuid  0  0"]),
        ],
    ),
    (
        "umount",
        &[
            ("What nobody uses any more", &["puzzlefs umount mnt"]),
            ("What somebody still uses", &["puzzlefs umount --lazy mnt"]),
        ],
    ),
    (
        "enable-fs-verity",
        &[("Seal the blobs of an image", &["puzzlefs enable-fs-verity images:v1"])],
    ),
];
