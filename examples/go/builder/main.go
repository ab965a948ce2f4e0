// Builder makes an image step by step, as a file like a Dockerfile says.
//
//	go run . FILE LAYOUT:TAG
//
// The instructions:
//
//	FROM IMAGE           a puzzlefs image or an ordinary one, as LAYOUT:TAG, or scratch
//	COPY SOURCE TARGET   a file, or what is in a folder, from the folder that FILE is in
//	RUN COMMAND          by the image's shell, as root, in a chroot where there is no /proc
//	ENV, EXPOSE, ENTRYPOINT, CMD, USER, WORKDIR WORD…, or a list of words in JSON
//
// COPY and RUN change a writable mount of the image so far. What is written there becomes the next
// image, a delta: a step costs what it changes. That takes root. The tag is set when all is done,
// and the digest printed; `puzzlefs gc` deletes what the steps before the last one leave.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	puzzlefs "github.com/project-machine/libpuzzlefs/go-bindings"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: builder FILE LAYOUT:TAG")
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	digest, err := build(ctx, os.Args[1], os.Args[2], os.Stderr)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "builder:", err)
		os.Exit(1)
	}
	fmt.Println(digest)
}

// build makes the image that the file describes, and returns its digest.
func build(ctx context.Context, file, image string, log io.Writer) (digest string, err error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	steps, err := parse(string(text))
	if err != nil {
		return "", fmt.Errorf("%s: %w", file, err)
	}
	b := &builder{folder: filepath.Dir(file), image: image + "-unfinished", log: log}
	defer func() {
		// There is none if the first step failed.
		if untagged := puzzlefs.Untag(context.WithoutCancel(ctx), b.image); !errors.Is(untagged, fs.ErrNotExist) {
			err = errors.Join(err, untagged)
		}
	}()
	for number, step := range steps {
		fmt.Fprintf(log, "step %d of %d: %s\n", number+1, len(steps), step.line)
		if err := instructions[step.instruction](b, ctx, step); err != nil {
			return "", fmt.Errorf("%s: %w", step.line, err)
		}
	}
	built, err := puzzlefs.Open(b.image, nil)
	if err != nil {
		return "", err
	}
	return built.Digest(), errors.Join(built.Close(), puzzlefs.Tag(ctx, b.image, image[strings.LastIndex(image, ":")+1:]))
}

// step is a line: an instruction, and what it is about.
type step struct {
	line, instruction, text string
}

// parse splits a file into its steps. A line that ends with a backslash goes on in the next one.
func parse(text string) ([]step, error) {
	var steps []step
	for line := range strings.Lines(strings.ReplaceAll(text, "\\\n", "")) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		instruction, rest, _ := strings.Cut(line, " ")
		if instructions[instruction] == nil {
			return nil, fmt.Errorf("%s: there is no such instruction", line)
		}
		steps = append(steps, step{line, instruction, strings.TrimSpace(rest)})
	}
	if len(steps) == 0 || steps[0].instruction != "FROM" {
		return nil, errors.New("the first step must be FROM")
	}
	return steps, nil
}

// builder makes one image.
type builder struct {
	folder string // where COPY finds what it copies
	image  string // the image so far
	log    io.Writer
}

var instructions = map[string]func(*builder, context.Context, step) error{
	"FROM":       (*builder).from,
	"COPY":       (*builder).copy,
	"RUN":        (*builder).run,
	"ENV":        configure(func(o *options, words []string) { o.Env = words }),
	"EXPOSE":     configure(func(o *options, words []string) { o.ExposedPorts = words }),
	"ENTRYPOINT": configure(func(o *options, words []string) { o.Entrypoint = words }),
	"CMD":        configure(func(o *options, words []string) { o.Cmd = words }),
	"USER":       configure(func(o *options, words []string) { o.User = words[0] }),
	"WORKDIR":    configure(func(o *options, words []string) { o.WorkingDir = words[0] }),
}

func (b *builder) from(ctx context.Context, s step) error {
	options := &puzzlefs.BuildOptions{CreatedBy: s.line}
	if s.text == "scratch" {
		// Nothing but the root directory, which is like the folder.
		options.Exclude = []string{"*"}
		_, err := puzzlefs.Build(ctx, b.folder, b.image, options)
		return err
	}
	_, err := puzzlefs.Convert(ctx, s.text, b.image, options)
	if errors.Is(err, fs.ErrInvalid) {
		// It is a puzzlefs image: it becomes ours by no change at all.
		return b.change(ctx, s, s.text, func(*os.Root, *puzzlefs.Image) error { return nil })
	}
	return err
}

func (b *builder) copy(ctx context.Context, s step) error {
	source, target, _ := strings.Cut(s.text, " ")
	return b.change(ctx, s, b.image, func(root *os.Root, _ *puzzlefs.Image) error {
		return copyTree(os.DirFS(b.folder), filepath.Clean(source), root, filepath.Join(".", target))
	})
}

// copyTree copies files, folders and links. Nothing is written outside of root, whatever is there.
func copyTree(source fs.FS, name string, root *os.Root, target string) error {
	return fs.WalkDir(source, name, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		to := filepath.Join(target, strings.TrimPrefix(path+"/", name+"/"))
		switch entry.Type() {
		case fs.ModeDir:
			return root.MkdirAll(to, info.Mode().Perm())
		case fs.ModeSymlink:
			link, err := fs.ReadLink(source, path)
			return errors.Join(err, root.Symlink(link, to))
		case 0:
			content, err := fs.ReadFile(source, path)
			return errors.Join(err, root.MkdirAll(filepath.Dir(to), 0o755), root.WriteFile(to, content, 0o600),
				root.Chmod(to, info.Mode().Perm()), root.Chtimes(to, info.ModTime(), info.ModTime()))
		default:
			return fmt.Errorf("%s is no file, folder or link", path)
		}
	})
}

// config is what RUN heeds of an image's configuration.
type config struct {
	Env        []string
	WorkingDir string
}

func (b *builder) run(ctx context.Context, s step) error {
	return b.change(ctx, s, b.image, func(root *os.Root, image *puzzlefs.Image) error {
		var about struct{ Config struct{ Config config } }
		document, err := image.Inspect()
		if err != nil {
			return err
		}
		if err := json.Unmarshal(document, &about); err != nil {
			return err
		}
		dir := filepath.Join("/", about.Config.Config.WorkingDir)
		if err := root.MkdirAll("."+dir, 0o755); err != nil {
			return err
		}
		cmd := exec.CommandContext(ctx, "/bin/sh", "-c", s.text)
		cmd.Dir, cmd.Stdout, cmd.Stderr = dir, b.log, b.log
		cmd.Env = append([]string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}, about.Config.Config.Env...)
		// What the command leaves running ends with it: the mount must not stay in use.
		cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: root.Name(), Cloneflags: syscall.CLONE_NEWPID}
		return cmd.Run()
	})
}

// change mounts the image base, and makes the next image of what work changes in it.
func (b *builder) change(ctx context.Context, s step, base string, work func(*os.Root, *puzzlefs.Image) error) (err error) {
	image, err := puzzlefs.Open(base, nil)
	if err != nil {
		return err
	}
	defer image.Close()
	point, err := os.MkdirTemp("", "builder-")
	if err != nil {
		return err
	}
	kept := point + ".kept"
	defer func() { err = errors.Join(err, os.RemoveAll(point), os.RemoveAll(kept)) }()
	mount, err := image.Mount(ctx, point, &puzzlefs.MountOptions{Persist: kept})
	if err != nil {
		return err
	}
	root, err := os.OpenRoot(point)
	if err == nil {
		err = errors.Join(work(root, image), root.Close())
	}
	if err := errors.Join(err, mount.Unmount()); err != nil {
		return err
	}
	options := &puzzlefs.BuildOptions{Base: base, CreatedBy: s.line}
	_, err = puzzlefs.Delta(ctx, filepath.Join(kept, "upper"), b.image, options)
	return err
}

type options = puzzlefs.ConfigOptions

// configure is an instruction that changes how the image is run.
func configure(set func(*options, []string)) func(*builder, context.Context, step) error {
	return func(b *builder, ctx context.Context, s step) error {
		words := strings.Fields(s.text)
		if strings.HasPrefix(s.text, "[") {
			if err := json.Unmarshal([]byte(s.text), &words); err != nil {
				return err
			}
		}
		if len(words) == 0 {
			return errors.New("there is nothing to set")
		}
		options := &options{CreatedBy: s.line}
		set(options, words)
		_, err := puzzlefs.Config(ctx, b.image, options)
		return err
	}
}
