module github.com/project-machine/libpuzzlefs/go-bindings

go 1.25.0
