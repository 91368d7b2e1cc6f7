// Package webdocs serves pages about the API for people: Swagger UI and Redoc, from
// files that are part of the program. Nothing is loaded from elsewhere, and the pages'
// own policy keeps browsers from trying.
package webdocs
