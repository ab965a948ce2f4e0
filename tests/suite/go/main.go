// Tool is all of the library as a command-line tool: see suite.bats, which tests this one and its like in C and
// in Rust.
//
//	tool COMMAND [--OPTION[=VALUE]]... [OPERAND]...
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	puzzlefs "github.com/project-machine/libpuzzlefs/go-bindings"
)

// arguments is what of the command line is not taken yet.
var arguments []string

var background = context.Background()

func die(what string) {
	fmt.Fprintln(os.Stderr, "tool: wrong", what)
	os.Exit(2)
}

var kinds = []struct {
	kind error
	name string
}{
	{fs.ErrInvalid, "InvalidInput"},
	{fs.ErrNotExist, "NotFound"},
	{fs.ErrExist, "AlreadyExists"},
	{fs.ErrPermission, "PermissionDenied"},
	{puzzlefs.ErrCorrupt, "Corrupt"},
	{errors.ErrUnsupported, "Unsupported"},
	{puzzlefs.ErrChanged, "Changed"},
	{puzzlefs.ErrNoSpace, "NoSpace"},
	{context.Canceled, "Cancelled"},
	{puzzlefs.ErrIO, "Io"},
	{puzzlefs.ErrInternal, "Internal"},
}

func check(err error) {
	if err == nil {
		return
	}
	var failure *puzzlefs.Error
	if !errors.As(err, &failure) {
		die(err.Error())
	}
	for _, known := range kinds {
		if failure.Kind == known.kind {
			fmt.Fprintf(os.Stderr, "%s: %s\n", known.name, failure.Message)
			os.Exit(1)
		}
	}
	die(err.Error())
}

func must[T any](value T, err error) T {
	check(err)
	return value
}

// take takes --name or --name=value; it says whether there is one.
func take(name string) (string, bool) {
	for i, argument := range arguments {
		found, value, _ := strings.Cut(argument, "=")
		if found == name {
			arguments = slices.Delete(arguments, i, i+1)
			return value, true
		}
	}
	return "", false
}

func text(name string) string {
	value, _ := take(name)
	return value
}

func flag(name string) bool {
	_, found := take(name)
	return found
}

func number(name string) (int64, bool) {
	value, found := take(name)
	if !found {
		return 0, false
	}
	parsed, err := strconv.ParseInt(value, 10, 64)
	if err != nil {
		die(name)
	}
	return parsed, true
}

func count(name string) int {
	value, _ := number(name)
	return int(value)
}

// seconds is a time since 1970.
func seconds(name string) time.Time {
	if value, found := number(name); found {
		return time.Unix(value, 0)
	}
	return time.Time{}
}

// list has all values of an option.
func list(name string) []string {
	var values []string
	for value, found := take(name); found; value, found = take(name) {
		values = append(values, value)
	}
	return values
}

// pairs has all values of an option, each as KEY=VALUE.
func pairs(name string) map[string]string {
	values := map[string]string{}
	for _, value := range list(name) {
		key, value, _ := strings.Cut(value, "=")
		values[key] = value
	}
	return values
}

// content is what a file holds, as an option has its path.
func content(name string) []byte {
	path, found := take(name)
	if !found {
		return nil
	}
	bytes, err := os.ReadFile(path)
	if err != nil {
		die(name)
	}
	return bytes
}

// choice is the value of an option among all there are; the first if it is not given.
func choice[T ~int](name string, values ...string) T {
	value, found := take(name)
	if !found {
		return 0
	}
	index := slices.Index(values, value)
	if index < 0 {
		die(name)
	}
	return T(index)
}

// operands are all that is left of the command line.
func operands(count int) []string {
	for _, argument := range arguments {
		if strings.HasPrefix(argument, "--") {
			die(argument)
		}
	}
	if len(arguments) != count {
		die("number of operands")
	}
	return arguments
}

// open opens the image that is the first of so many operands.
func open(count int) *puzzlefs.Image {
	options := &puzzlefs.OpenOptions{Platform: text("--platform"), NoVerify: flag("--no-verify")}
	return must(puzzlefs.Open(operands(count)[0], options))
}

func show(name string, value any) {
	fmt.Println(name, value)
}

func showJSON(value any) {
	fmt.Println(string(must(json.Marshal(value))))
}

// orNull is null for what a Go program sees as nothing.
func orNull[T comparable](value T) any {
	var nothing T
	if value == nothing {
		return nil
	}
	return value
}

func buildOptions() *puzzlefs.BuildOptions {
	options := &puzzlefs.BuildOptions{
		Base:          text("--base"),
		Platform:      text("--platform"),
		VerifyBase:    flag("--verify-base"),
		TrustMtime:    flag("--trust-mtime"),
		Marks:         choice[puzzlefs.Marks]("--marks", "auto", "trusted", "user"),
		Squash:        flag("--squash"),
		Exclude:       list("--exclude"),
		OneFileSystem: flag("--one-file-system"),
		SELinux:       flag("--selinux"),
		ClampMtime:    seconds("--clamp-mtime"),
		DataLayout:    choice[puzzlefs.DataLayout]("--layout", "packs", "blob-per-chunk"),
		PackSize:      int64(count("--pack-size")),
		MemoryLimit:   int64(count("--memory-limit")),
		Config:        content("--config"),
		Architecture:  text("--architecture"),
		OS:            text("--os"),
		Annotations:   pairs("--annotation"),
		Created:       seconds("--created"),
		Author:        text("--author"),
		CreatedBy:     text("--created-by"),
		Comment:       text("--comment"),
		Threads:       count("--threads"),
	}
	if owner, found := take("--owner"); found {
		options.Owner = &puzzlefs.Owner{}
		if _, err := fmt.Sscanf(owner, "%d:%d", &options.Owner.UID, &options.Owner.GID); err != nil {
			die("--owner")
		}
	}
	if compression, found := take("--compression"); found {
		if _, err := fmt.Sscanf(compression, "zstd:%d", &options.Level); err != nil {
			options.Compression = puzzlefs.NoCompression
		}
	}
	return options
}

type builder func(context.Context, string, string, *puzzlefs.BuildOptions) (*puzzlefs.BuildResult, error)

func (run builder) run() {
	ctx, cancel := context.WithCancel(background)
	defer cancel()
	if flag("--cancel") {
		cancel()
	}
	options := buildOptions()
	paths := operands(2)
	result := must(run(ctx, paths[0], paths[1], options))
	show("digest", result.Digest)
	show("verity", result.Verity)
	show("size", result.Size)
	show("inodes", result.Inodes)
	show("files", result.Files)
	show("unchanged_files", result.UnchangedFiles)
	show("layers", result.Layers)
	show("chunks", result.Chunks)
	show("new_chunks", result.NewChunks)
	show("tree", result.BytesTree)
	show("read", result.BytesRead)
	show("new", result.BytesNew)
	show("moved", result.BytesMoved)
	show("stored", result.BytesStored)
	show("copied", result.BytesCopied)
	show("shared", result.BytesShared)
	show("metadata", result.BytesMetadata)
}

func config() {
	options := &puzzlefs.ConfigOptions{
		Tag:          text("--tag"),
		Platform:     text("--platform"),
		Clear:        list("--clear"),
		Entrypoint:   list("--entrypoint"),
		Cmd:          list("--cmd"),
		Env:          list("--env"),
		Labels:       pairs("--label"),
		Volumes:      list("--volume"),
		ExposedPorts: list("--expose"),
		User:         text("--user"),
		WorkingDir:   text("--workdir"),
		StopSignal:   text("--stop-signal"),
		Config:       content("--config"),
		Architecture: text("--architecture"),
		OS:           text("--os"),
		Annotations:  pairs("--annotation"),
		Created:      seconds("--created"),
		Author:       text("--author"),
		CreatedBy:    text("--created-by"),
		Comment:      text("--comment"),
	}
	result := must(puzzlefs.Config(background, operands(1)[0], options))
	show("digest", result.Digest)
	show("verity", result.Verity)
	show("size", result.Size)
}

func tag() {
	paths := operands(2)
	check(puzzlefs.Tag(background, paths[0], paths[1]))
}

func untag() {
	check(puzzlefs.Untag(background, operands(1)[0]))
}

func tags() {
	type entry struct {
		Tag       any    `json:"tag"`
		Digest    string `json:"digest"`
		MediaType string `json:"media_type"`
		Size      int64  `json:"size"`
		Kind      string `json:"kind"`
		Bytes     any    `json:"bytes"`
	}
	entries := []entry{}
	for _, e := range must(puzzlefs.Tags(operands(1)[0])) {
		entries = append(entries, entry{orNull(e.Tag), e.Digest, e.MediaType, e.Size, string(e.Kind), orNull(e.Bytes)})
	}
	showJSON(entries)
}

func gc() {
	options := &puzzlefs.GCOptions{DryRun: flag("--dry-run")}
	if grace, found := number("--grace"); found {
		options.Grace = time.Duration(grace) * time.Second
		if grace == 0 {
			options.Grace = puzzlefs.NoGrace
		}
	}
	report := must(puzzlefs.GC(background, operands(1)[0], options))
	type young struct {
		Blobs int64 `json:"blobs"`
		Bytes int64 `json:"bytes"`
	}
	type leftovers struct {
		Count int64 `json:"count"`
		Bytes int64 `json:"bytes"`
	}
	showJSON(struct {
		Removed   []string  `json:"removed"`
		Bytes     int64     `json:"bytes"`
		Young     young     `json:"young"`
		Leftovers leftovers `json:"leftovers"`
	}{
		append([]string{}, report.Removed...), report.Bytes,
		young{report.Young, report.BytesYoung}, leftovers{report.Leftovers, report.BytesLeftovers},
	})
}

func fsck() {
	options := &puzzlefs.FsckOptions{RepairFrom: list("--repair-from")}
	report := must(puzzlefs.Fsck(background, operands(1)[0], options))
	for _, finding := range report.Findings {
		fmt.Println(finding)
	}
	show("images", report.Images)
	show("blobs", report.Blobs)
	show("bytes", report.Bytes)
	show("unreferenced", report.Unreferenced)
}

// stat prints path, type and permissions, links, owner, group, device, size, mtime, and target.
func stat() {
	follow := flag("--follow")
	image := open(2)
	defer image.Close()
	path := arguments[1]
	look := image.Lstat
	if follow {
		look = image.Stat
	}
	info := must(look(path))
	stat := info.Sys().(*puzzlefs.Stat)
	fmt.Printf("%s %o %d %d %d", path, stat.Mode, stat.Nlink, stat.UID, stat.GID)
	fmt.Printf(" %d:%d %d", stat.Major, stat.Minor, stat.Size)
	fmt.Printf(" %d %d", stat.ModTime.Unix(), stat.ModTime.Nanosecond())
	if info.Mode().Type() == fs.ModeSymlink {
		fmt.Printf(" -> %s", must(image.ReadLink(path)))
	}
	fmt.Println()
}

func ls() {
	image := open(2)
	defer image.Close()
	for _, entry := range must(image.ReadDir(arguments[1])) {
		stat := must(entry.Info()).Sys().(*puzzlefs.Stat)
		fmt.Printf("%o %s\n", stat.Mode, entry.Name())
	}
}

func xattrs() {
	image := open(2)
	defer image.Close()
	attributes := must(image.Xattrs(arguments[1]))
	for _, name := range slices.Sorted(maps.Keys(attributes)) {
		fmt.Printf("%s=%x\n", name, attributes[name])
	}
}

func cat() {
	image := open(2)
	defer image.Close()
	file := must(image.Open(arguments[1]))
	defer file.Close()
	must(io.Copy(os.Stdout, file))
}

func inspect() {
	image := open(1)
	defer image.Close()
	fmt.Println(string(must(image.Inspect())))
}

func diff() {
	image := open(2)
	defer image.Close()
	other := must(puzzlefs.Open(arguments[1], nil))
	defer other.Close()
	out := bufio.NewWriter(os.Stdout)
	for change, err := range image.Diff(other) {
		check(err)
		fmt.Fprint(out, change.Kind)
		for _, aspect := range change.How {
			fmt.Fprint(out, " ", aspect)
		}
		fmt.Fprintln(out, "", change.Path)
	}
	check(out.Flush())
	size := must(image.DiffSize(other))
	show("blobs", size.Blobs)
	show("data", size.BytesData)
	show("metadata", size.BytesMetadata)
}

func checkDigest() {
	image := open(2)
	defer image.Close()
	check(image.Check(background, arguments[1], nil))
}

func extract() {
	options := &puzzlefs.ExtractOptions{NoSameOwner: flag("--no-same-owner"), Threads: count("--threads")}
	image := open(2)
	defer image.Close()
	result := must(image.Extract(background, arguments[1], options))
	for _, lost := range result.Lost {
		fmt.Println("lost", lost.What, lost.Count, lost.First)
	}
	show("inodes", result.Inodes)
	show("bytes", result.Bytes)
}

func export() {
	image := open(2)
	defer image.Close()
	file, err := os.Create(arguments[1])
	if err != nil {
		die(arguments[1])
	}
	result := must(image.Export(background, file, nil))
	if err := file.Close(); err != nil {
		die(arguments[1])
	}
	show("entries", result.Entries)
	show("bytes", result.Bytes)
	show("sockets", result.Sockets)
}

// ids reads ranges as the C library has them.
func ids(name string) []puzzlefs.IDRange {
	value, found := take(name)
	if !found {
		return nil
	}
	var ranges []puzzlefs.IDRange
	for part := range strings.SplitSeq(value, "+") {
		var r puzzlefs.IDRange
		if _, err := fmt.Sscanf(part, "%d:%d:%d", &r.Inside, &r.Outside, &r.Count); err != nil {
			die(name)
		}
		ranges = append(ranges, r)
	}
	return ranges
}

// mount mounts until standard input ends.
func mount() {
	options := &puzzlefs.MountOptions{
		AllowOther:         flag("--allow-other"),
		OwnerOnly:          flag("--owner-only"),
		DefaultPermissions: flag("--default-permissions"),
		NoSUID:             flag("--nosuid"),
		NoDev:              flag("--nodev"),
		NoExec:             flag("--noexec"),
		Writable:           flag("--writable"),
		Persist:            text("--persist"),
		UIDMap:             ids("--uid-map"),
		GIDMap:             ids("--gid-map"),
		Source:             text("--source"),
		Threads:            count("--threads"),
		Log:                func(line string) { fmt.Fprintln(os.Stderr, "log:", line) },
	}
	image := open(2)
	mounted := must(image.Mount(background, arguments[1], options))
	check(image.Close())
	fmt.Println(mounted.Point())
	must(io.Copy(io.Discard, os.Stdin))
	check(mounted.Unmount())
}

func unmount() {
	lazy := flag("--lazy")
	check(puzzlefs.Unmount(operands(1)[0], lazy))
}

func version() {
	operands(0)
	fmt.Println(puzzlefs.Version())
}

var commands = map[string]func(){
	"build": builder(puzzlefs.Build).run, "delta": builder(puzzlefs.Delta).run,
	"convert": builder(puzzlefs.Convert).run, "canonicalize": builder(puzzlefs.Canonicalize).run,
	"config": config, "tag": tag, "untag": untag, "tags": tags, "gc": gc, "fsck": fsck,
	"stat": stat, "ls": ls, "xattrs": xattrs, "cat": cat, "inspect": inspect, "diff": diff,
	"extract": extract, "export": export, "mount": mount, "unmount": unmount,
	"check": checkDigest, "version": version,
}

func main() {
	if len(os.Args) < 2 || commands[os.Args[1]] == nil {
		die("command")
	}
	arguments = os.Args[2:]
	commands[os.Args[1]]()
}
