package main

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	puzzlefs "github.com/project-machine/libpuzzlefs/go-bindings"
)

// start serves an image of rootfs until the test ends, and returns its URL.
func start(t *testing.T, rootfs string) string {
	t.Helper()
	image := filepath.Join(t.TempDir(), "images:v1")
	if _, err := puzzlefs.Build(context.Background(), rootfs, image, nil); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	reader, writer := io.Pipe()
	ended := make(chan error)
	go func() {
		err := serve(ctx, image, "localhost:0", writer)
		writer.CloseWithError(err)
		ended <- err
	}()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("it ended with %v", err)
		}
	})
	url, err := bufio.NewReader(reader).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(url)
}

func TestServe(t *testing.T) {
	rootfs := t.TempDir()
	noise := make([]byte, 1<<20)
	_, _ = rand.NewChaCha8([32]byte{}).Read(noise)
	files := map[string][]byte{
		"index.html": []byte("<p>welcome</p>\n"),
		"noise":      noise,
		"sub/file":   []byte("below\n"),
		"sub/a b?.ü": []byte("odd\n"),
		"empty.json": nil,
	}
	for name, content := range files {
		path := filepath.Join(rootfs, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("/sub/file", filepath.Join(rootfs, "link")); err != nil {
		t.Fatal(err)
	}
	url := start(t, rootfs)

	cases := []struct {
		name   string
		path   string
		header http.Header
		status int
		kind   string
		body   string
	}{
		{"an index", "", nil, http.StatusOK, "text/html; charset=utf-8", "<p>welcome</p>\n"},
		{"a file", "sub/file", nil, http.StatusOK, "text/plain; charset=utf-8", "below\n"},
		{"a link", "link", nil, http.StatusOK, "text/plain; charset=utf-8", "below\n"},
		{"an odd name", "sub/a%20b%3F.%C3%BC", nil, http.StatusOK, "text/plain; charset=utf-8", "odd\n"},
		{"an empty file", "empty.json", nil, http.StatusOK, "application/json", ""},
		{"a large file", "noise", nil, http.StatusOK, "application/octet-stream", string(noise)},
		{
			"a part",
			"noise",
			http.Header{"Range": {"bytes=131000-262200"}},
			http.StatusPartialContent,
			"application/octet-stream",
			string(noise[131000:262201]),
		},
		{"nothing", "nowhere", nil, http.StatusNotFound, "text/plain; charset=utf-8", "404 page not found\n"},
		{"above", "sub/%2e%2e/%2e%2e/etc/passwd", nil, http.StatusNotFound, "text/plain; charset=utf-8", "404 page not found\n"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			response, body := get(t, url+c.path, c.header)
			if response.StatusCode != c.status || response.Header.Get("Content-Type") != c.kind {
				t.Errorf("it answered %s, %s", response.Status, response.Header.Get("Content-Type"))
			}
			if !bytes.Equal(body, []byte(c.body)) {
				t.Errorf("it answered %d bytes, not %d", len(body), len(c.body))
			}
		})
	}

	if _, body := get(t, url+"sub/", nil); !strings.Contains(string(body), `<a href="a%20b%3F.%C3%BC">`) {
		t.Errorf("a folder is shown as %s", body)
	}
	response, _ := get(t, url+"noise", nil)
	again := http.Header{"If-None-Match": {response.Header.Get("ETag")}}
	if response, body := get(t, url+"noise", again); response.StatusCode != http.StatusNotModified || len(body) != 0 {
		t.Errorf("what is known was answered with %s and %d bytes", response.Status, len(body))
	}
}

// get returns what the server answers.
func get(t *testing.T, url string, header http.Header) (*http.Response, []byte) {
	t.Helper()
	request, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header = header
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response, body
}

func TestErrors(t *testing.T) {
	image := filepath.Join(t.TempDir(), "images:v1")
	if _, err := puzzlefs.Build(context.Background(), t.TempDir(), image, nil); err != nil {
		t.Fatal(err)
	}
	for name, arguments := range map[string][2]string{
		"no image":   {image + "2", "localhost:0"},
		"no address": {image, "nowhere"},
	} {
		if err := serve(context.Background(), arguments[0], arguments[1], io.Discard); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
