"""What a catalog's samples are in truth: every one opened, or decoded, and compared with the others.

facts      what one sample shows, found where it can be killed
findings   a table, one row per sample of the catalog
repeats    samples whose bytes are equal, within a catalog and between two
summary    all of it on one page, as data
filling    the catalog once more, with what was found out
"""
