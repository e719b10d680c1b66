"""Common Crawl: snapshots, file lists, readers of WET, WARC and ARC."""
