// Command oci-schema checks an OCI image layout against the JSON schemas of
// the image specification: oci-layout, index.json, and the manifest and the
// config of every image. It prints a line for each document that is valid.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/opencontainers/image-spec/schema"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: oci-schema LAYOUT")
		os.Exit(2)
	}
	if err := checkLayout(os.Args[1]); err != nil {
		fmt.Fprintf(os.Stderr, "oci-schema: %v\n", err)
		os.Exit(1)
	}
}

func checkLayout(layout string) error {
	if err := check(layout, "oci-layout", schema.ValidatorMediaTypeLayoutHeader, nil); err != nil {
		return err
	}
	var index v1.Index
	if err := check(layout, "index.json", schema.ValidatorMediaTypeImageIndex, &index); err != nil {
		return err
	}
	for _, descriptor := range index.Manifests {
		var manifest v1.Manifest
		if err := checkBlob(layout, descriptor, &manifest); err != nil {
			return err
		}
		if err := checkBlob(layout, manifest.Config, nil); err != nil {
			return err
		}
	}
	return nil
}

// checkBlob takes the schema that the descriptor's media type names.
func checkBlob(layout string, descriptor v1.Descriptor, into any) error {
	name := filepath.Join("blobs", descriptor.Digest.Algorithm().String(), descriptor.Digest.Encoded())
	return check(layout, name, schema.Validator(descriptor.MediaType), into)
}

// check validates the file, then decodes it unless into is nil.
func check(layout, name string, validator schema.Validator, into any) error {
	document, err := os.ReadFile(filepath.Join(layout, name))
	if err != nil {
		return err
	}
	if err := validator.Validate(bytes.NewReader(document)); err != nil {
		return fmt.Errorf("%s (%s): %w", name, validator, err)
	}
	fmt.Printf("%s: %s\n", name, validator)
	if into == nil {
		return nil
	}
	return json.Unmarshal(document, into)
}
