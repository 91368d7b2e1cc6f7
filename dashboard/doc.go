// Package dashboard is the web pages of operators, on the admin listener: what a running
// weir does, its client keys, pools, requests in flight, limits and configuration.
//
// Pages are rendered here, and changes are plain forms that ask the services of package
// admin. htmx replaces the live part of a page every few seconds, and uPlot draws the
// charts; both are part of the program, and a page's policy keeps browsers from running
// or loading anything else. Without JavaScript pages are read and changed as well.
//
// An operator shows the admin token once and then a cookie with the random name of a
// session, which is kept here and ends by itself.
package dashboard
