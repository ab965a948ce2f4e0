//go:build puzzlefs_static

package capi

// In a file of its own: the go command's cache would not tell two kinds of one file apart.

// #cgo pkg-config: --static puzzlefs
import "C"
