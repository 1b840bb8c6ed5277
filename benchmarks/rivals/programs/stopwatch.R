# What the R programs that maximise a likelihood share, as stopwatch.py does for Python. Base R alone.

long <- 60 # seconds: with a whole call beyond this, the fit is what building the model leaves of it

read_task <- function(folder = ".") {
  here <- new.env()
  sys.source(file.path(folder, "task.R"), here)
  here$task
}

read_data <- function(task, folder = ".") {
  data <- lapply(seq_along(task$columns), function(k) {
    column <- task$columns[[k]]
    file <- file.path(folder, sprintf("%d.bin", k))
    if (column$factor == 0) return(readBin(file, "double", column$rows))
    levels <- readLines(sub("bin$", "txt", file))
    structure(readBin(file, "integer", column$rows) + 1L, levels = levels, class = "factor")
  })
  names(data) <- sapply(task$columns, function(column) column$name)
  as.data.frame(data)
}

# Seconds of a call, wall and the processor's; R's own clock of the latter counts milliseconds.
timed <- function(call) {
  wall <- Sys.time()
  before <- proc.time()
  value <- call()
  spent <- proc.time() - before
  list(
    value = value, wall = as.numeric(difftime(Sys.time(), wall, units = "secs")),
    cpu = sum(spent[c("user.self", "sys.self", "user.child", "sys.child")], na.rm = TRUE)
  )
}

status <- function(what) {
  line <- tryCatch(grep(what, readLines("/proc/self/status"), value = TRUE), error = function(e) character(0))
  if (length(line)) as.numeric(gsub("[^0-9]", "", line)) / 1024 else NA
}

leave <- function(result) {
  plain <- sapply(result, function(x) {
    if (is.character(x)) dQuote(gsub("[\"\\\\\n]", " ", x), FALSE)
    else if (is.logical(x) && !is.na(x)) tolower(as.character(x))
    else if (is.finite(x)) format(x, digits = 15)
    else "null"
  })
  cat(sprintf("{%s}\n", paste(sprintf("\"%s\": %s", names(result), plain), collapse = ", ")), file = "result.json")
}

# `whole(data, task)` is the call of a user, `told(fit)` a list of what the table needs; `build` and `fit` are the
# same in two steps; `refit(fit, count, task)` returns the slopes of a bootstrap. `few` is for a program whose
# refits take long: so many are measured, and counted as all.
measure <- function(whole, told, build = NULL, fit = NULL, refit = NULL, few = Inf) {
  options(warn = -1)
  small <- read_task("small")
  invisible(whole(read_data(small, "small"), small))
  task <- read_task()
  data <- read_data(task)
  invisible(gc())
  before <- status("VmRSS")
  try(cat("5", file = "/proc/self/clear_refs"), silent = TRUE)
  first <- timed(function() whole(data, task))
  result <- c(list(memory = status("VmHWM") - before, repeats = 1), told(first$value))
  if (task$refits > 0) {
    count <- min(task$refits, few)
    set.seed(task$seed)
    took <- timed(function() refit(first$value, count, task))
    result$whole <- took$wall * task$refits / count
    result$whole_cpu <- took$cpu * task$refits / count
    result$spread <- sd(took$value)
    if (count < task$refits) result$note <- sprintf("%d refits, times %g", count, task$refits / count)
    leave(result)
    return(invisible())
  }
  result$whole <- first$wall
  result$whole_cpu <- first$cpu
  leave(result)
  if (first$wall < long) {
    # in turns of a tenth of a second, since the clock of the processor is coarse
    turn <- max(1, ceiling(0.1 / first$wall))
    until <- Sys.time() + task$seconds
    again <- list()
    while (length(again) == 0 || (Sys.time() + turn * first$wall < until && length(again) < 500)) {
      again[[length(again) + 1]] <- timed(function() for (k in seq_len(turn)) whole(data, task))
    }
    result$whole <- min(c(if (turn == 1) first$wall, sapply(again, function(x) x$wall) / turn))
    result$whole_cpu <- min(c(if (turn == 1) first$cpu, sapply(again, function(x) x$cpu) / turn))
    result$repeats <- turn * length(again) + 1
    leave(result)
  }
  if (is.null(build)) return(invisible())
  models <- fits <- list()
  until <- Sys.time() + task$seconds
  while (length(models) == 0 || (Sys.time() < until && length(models) < 500)) {
    built <- timed(function() build(data, task))
    models[[length(models) + 1]] <- built
    if (first$wall >= long) break
    fits[[length(fits) + 1]] <- timed(function() fit(built$value, task))
  }
  # means of the processor's: a fit may take few of its clock's milliseconds
  result$model <- min(sapply(models, function(x) x$wall))
  result$model_cpu <- mean(sapply(models, function(x) x$cpu))
  result$fit <- if (length(fits)) min(sapply(fits, function(x) x$wall)) else first$wall - result$model
  result$fit_cpu <- if (length(fits)) mean(sapply(fits, function(x) x$cpu)) else first$cpu - result$model_cpu
  leave(result)
}
